import nemo_run as run

# Slurm execution
slurm_exec = run.SlurmExecutor(
    nodes=2,
    gpus_per_node=8,
    time="04:00:00",
    account="gpu-dept",
    partition="a100"
)

# Use with any configuration
config = run.Partial(train_model, model_size=1024)
run.run(config, executor=slurm_exec)
