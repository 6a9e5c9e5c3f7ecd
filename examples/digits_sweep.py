"""Which small neural network reads handwritten digits best? Six are trained; a last task compares them.

Run it with ``python examples/digits_sweep.py``, or with ``make demo``, which installs what it needs first.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import nemo_run as run


@dataclass
class Network:
    """One configuration that is tried out."""

    hidden_units: int = 32
    learning_rate: float = 0.001
    epochs: int = 20


def train(network: Network, results: Path) -> None:
    """Train one network, and note how well it reads digits that it has not seen."""
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
        accuracy = model.score(test_images, test_digits)
        print(f"epoch {epoch} of {network.epochs}: {accuracy:.1%} of the digits read correctly", flush=True)

    file = results / f"{network.hidden_units}-units-rate-{network.learning_rate}.json"
    file.write_text(json.dumps({**asdict(network), "accuracy": accuracy}))


def compare(results: Path) -> None:
    """Rank what the trainings have noted, the best first."""
    outcomes = [json.loads(file.read_text()) for file in results.glob("*-units-*.json")]
    outcomes.sort(key=lambda outcome: outcome["accuracy"], reverse=True)
    (results / "ranking.json").write_text(json.dumps(outcomes))
    print(f"The best of {len(outcomes)}: {outcomes[0]}")


def show(ranking: Path) -> None:
    """Print the ranking as a table."""
    print("\nhidden units  learning rate  accuracy")
    for place, outcome in enumerate(json.loads(ranking.read_text())):
        best = "  <- best" if place == 0 else ""
        print(f"{outcome['hidden_units']:12}  {outcome['learning_rate']:13}  {outcome['accuracy']:8.1%}{best}")
    print(flush=True)


def main() -> None:
    """Launch the sweep and wait for its end."""
    here = run.LocalExecutor(env_vars={"OMP_NUM_THREADS": "1"})
    with run.Experiment("digits", executor=here, skip_status_at_exit=True) as exp:
        results = exp.directory / "results"
        results.mkdir(parents=True)
        trained = []
        for units, rate in product((8, 32, 128), (0.001, 0.01)):
            task = run.Partial(train, network=Network(units, rate), results=results)
            trained.append(exp.add(task, name=f"{units}-units-rate-{rate}"))
        exp.add(compare, results=results, name="compare", dependencies=trained)
        exp.run(check=True)
        show(results / "ranking.json")


if __name__ == "__main__":
    main()
