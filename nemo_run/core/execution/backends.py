"""The backends that plans need, each made once and closed with the collection."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from nemo_run.core.execution.base import Backend, Executor, get_backend
from nemo_run.core.execution.jobs import Plan, backend_key

T = TypeVar("T")


class Backends:
    """The backends that plans need, each made once; plans of one engine with equal connections share one.

    Example:
        >>> with Backends() as backends:
        ...     backends.of(Plan("local", "job", "/job", {})).name
        'local'
    """

    def __init__(self) -> None:
        self._made: dict[str, Backend] = {}

    @property
    def made(self) -> Mapping[str, Backend]:
        """Those that there are already, by the keys of their plans."""
        return self._made

    def of(self, plan: Plan) -> Backend:
        """Return the backend for a plan.

        Raises:
            ExecutorError: There is no such engine here.
        """
        return self.of_engine(plan.engine, plan.connection)

    def of_engine(self, engine: str, connection: Mapping[str, Any]) -> Backend:
        """Return the backend of an engine that is reached in this way.

        Raises:
            ExecutorError: There is no such engine here.
        """
        key = backend_key(engine, connection)
        if key not in self._made:
            self._made[key] = get_backend(engine, connection)
        return self._made[key]

    def of_executor(self, executor: Executor) -> Backend:
        """Return the backend for an executor, which may know secrets that no plan has.

        Raises:
            ExecutorError: There is no such engine here.
        """
        key = backend_key(executor.engine, executor.connection())
        if key not in self._made:
            self._made[key] = executor.backend()
        return self._made[key]

    def group(self, items: Iterable[tuple[Plan, T]]) -> list[tuple[Backend, list[T]]]:
        """Return what belongs to plans, by the backend that it concerns."""
        groups: dict[int, tuple[Backend, list[T]]] = {}
        for plan, item in items:
            backend = self.of(plan)
            groups.setdefault(id(backend), (backend, []))[1].append(item)
        return list(groups.values())

    def close(self) -> None:
        """Close them all."""
        for backend in self._made.values():
            backend.close()

    def __enter__(self) -> Backends:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
