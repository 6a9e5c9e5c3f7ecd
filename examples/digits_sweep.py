"""Which small neural network reads handwritten digits best? Six are trained and compared.

Run it with ``python examples/digits_sweep.py``, or with ``make demo``, which installs what it needs first.
"""

from __future__ import annotations

from dataclasses import dataclass

import nemo_run as run


@dataclass
class Network:
    """One configuration that is tried out."""

    hidden_units: int = 32
    learning_rate: float = 0.001
    epochs: int = 20


def train(network: Network) -> float:
    """Train one network; return the part of the digits that it reads correctly, of those that it has not seen."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from sklearn.neural_network import MLPClassifier

    images, digits = load_digits(return_X_y=True)
    train_images, test_images, train_digits, test_digits = train_test_split(
        images / 16, digits, test_size=0.25, random_state=0, stratify=digits
    )
    model = MLPClassifier((network.hidden_units,), learning_rate_init=network.learning_rate, random_state=0)
    for epoch in range(1, network.epochs + 1):
        model.partial_fit(train_images, train_digits, classes=range(10))
        accuracy = float(model.score(test_images, test_digits))
        run.log_metrics({"accuracy": accuracy}, step=epoch)
        print(f"epoch {epoch} of {network.epochs}: {accuracy:.1%} of the digits read correctly", flush=True)
    return accuracy


def main() -> None:
    """Launch the sweep, wait for its end, and show what came out."""
    here = run.LocalExecutor(env_vars={"OMP_NUM_THREADS": "1"})
    with run.Experiment("digits", executor=here, skip_status_at_exit=True) as exp:
        space = {"network.hidden_units": run.choice(8, 32, 128), "network.learning_rate": run.choice(0.001, 0.01)}
        exp.sweep(run.Partial(train, network=run.Config(Network)), space)
        exp.run(check=True)
        print("\nhidden units  learning rate  accuracy")
        for place, trial in enumerate(exp.compare()):
            units, rate = trial.parameters.values()
            print(f"{units:12}  {rate:13}  {trial.objective:8.1%}{'  <- best' if place == 0 else ''}")
    print("the same table: nemorun experiment compare; curves: nemorun experiment metrics --plot", flush=True)


if __name__ == "__main__":
    main()
