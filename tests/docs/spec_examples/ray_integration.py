from nemo_run.run.ray import RayCluster, RayJob

# Create Ray cluster
cluster = RayCluster(
    name="ml-cluster",
    executor=kuberay_executor
)
cluster.start(timeout=900)
cluster.port_forward(port=8265)  # Ray dashboard

# Submit job to cluster
job = RayJob(name="training-job", executor=kuberay_executor)
job.start(
    command="python train.py --config config.yaml",
    workdir="/path/to/project",
    runtime_env_yaml="/path/to/runtime_env.yaml"
)
job.logs(follow=True)

# Clean up
cluster.stop()
