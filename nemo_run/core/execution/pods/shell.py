"""A shell, or another program, in a container of a pod, through the API of its cluster."""

from __future__ import annotations

from collections.abc import Sequence

from nemo_run.core.execution.pods.client import KubernetesClient
from nemo_run.core.execution.pods.streams import execute, execute_in_terminal
from nemo_run.core.execution.shared.terminals import SHELL, is_terminal, show


def run_inside(client: KubernetesClient, namespace: str, pod: str, container: str, argv: Sequence[str]) -> int:
    """Run a program in a container, with this terminal where there is one, and return its exit code."""
    argv = tuple(argv or SHELL)
    if is_terminal():
        return execute_in_terminal(client, namespace, pod, argv, container)
    done = execute(client, namespace, pod, argv, container=container)
    show(done.stdout)
    show(done.stderr)
    return done.exit_code
