"""Ray clusters and jobs, on any engine that can have them."""

from nemo_run.run.ray.cluster import RayCluster
from nemo_run.run.ray.job import RayJob

__all__ = ["RayCluster", "RayJob"]
