import nemo_run as run


def main():
    tunnel = run.LocalTunnel(job_dir="/home/ada/cluster")
    executor = run.SlurmExecutor(account="acct", partition="batch", packager=run.Packager(), tunnel=tunnel)
    with run.Experiment("on the cluster") as exp:
        exp.add(run.Script(inline="echo trained"), executor=executor, name="train")
        pair = [run.Script(inline="echo first"), run.Script(inline="echo second")]
        exp.add(pair, executor=executor, name="pair", dependencies=["train"])
        exp.run(detach=True)


if __name__ == "__main__":
    main()
