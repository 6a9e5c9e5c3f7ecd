"""The seam between Ray clusters and engines, under the name by which packages of others import it."""

from nemo_run.core.ray.engine import (
    ClusterSpec as ClusterSpec,
    ClusterState as ClusterState,
    ClusterStatus as ClusterStatus,
    Dashboard as Dashboard,
    KeptJob as KeptJob,
    RayEngine as RayEngine,
    get_engine as get_engine,
)
