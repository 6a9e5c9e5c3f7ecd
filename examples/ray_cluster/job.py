"""Runs on the cluster: a sum of squares, each of which is a task of Ray."""

import logging

import ray

ray.init(logging_level=logging.ERROR)


@ray.remote
def square(x: int) -> int:
    """One task of Ray."""
    return x * x


print("the sum of the squares is", sum(ray.get([square.remote(i) for i in range(10)])))
