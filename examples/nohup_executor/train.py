"""A task to run with it."""

import nemo_run as run


@run.cli.entrypoint
def train(size: int = 1) -> None:
    """Train something of this size."""
    print("trained", size)


if __name__ == "__main__":
    run.cli.main(train)
