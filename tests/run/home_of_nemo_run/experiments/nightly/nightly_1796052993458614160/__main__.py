import nemo_run as run


def main():
    with run.Experiment("nightly") as exp:
        exp.add(run.Script(inline="echo hello from alpha"), executor=run.LocalExecutor(), name="alpha")
        exp.add(run.Script(inline="echo oops; exit 3"), executor=run.LocalExecutor(), name="beta")
        pair = [run.Script(inline="echo first"), run.Script(inline="echo second")]
        exp.add(pair, executor=run.LocalExecutor(), name="pair")
        exp.run(sequential=True)


if __name__ == "__main__":
    main()
