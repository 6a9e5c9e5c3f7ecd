import nemo_run as run

# Create experiment
with run.Experiment("hyperparameter-sweep") as exp:
    # Add tasks with different configurations
    task1 = exp.add(
        train_model,
        model_size=512,
        executor=slurm_exec,
        name="small-model"
    )

    task2 = exp.add(
        train_model,
        model_size=1024,
        executor=slurm_exec,
        name="large-model"
    )

    # Add dependent task
    exp.add(
        evaluate_models,
        dependencies=[task1, task2],
        name="evaluation"
    )

    # Launch experiment
    exp.run(tail_logs=True, sequential=False)

# Later reconstruction
exp = run.Experiment.from_id("hyperparameter-sweep_20241201_123456")
exp.status()
exp.logs("large-model")
