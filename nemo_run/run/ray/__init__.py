"""Ray clusters and jobs, on any engine that can have them."""

from nemo_run.run.ray.cluster import RayCluster
from nemo_run.run.ray.job import RayJob
from nemo_run.run.ray.task import RayTask

__all__ = ["RayCluster", "RayJob", "RayTask"]
