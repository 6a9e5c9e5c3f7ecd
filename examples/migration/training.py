"""What both programs run."""


def train(rate: float) -> float:
    """Train; return the accuracy."""
    accuracy = 1 - rate
    print(f"rate {rate}: accuracy {accuracy}")
    return accuracy


def best(accuracies: list[float]) -> float:
    """Return the best accuracy."""
    return max(accuracies)
