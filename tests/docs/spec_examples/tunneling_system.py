import nemo_run as run

# SSH tunnel to remote cluster
ssh_tunnel = run.SSHTunnel(
    host="login.cluster.com",
    user="username",
    identity="~/.ssh/id_rsa",
    job_dir="/scratch/username/runs"
)

# Use with executor
executor = run.SlurmExecutor(tunnel=ssh_tunnel)
run.run(config, executor=executor)
