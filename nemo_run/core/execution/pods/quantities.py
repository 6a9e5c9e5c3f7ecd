"""What the container that keeps artifacts takes of the resources of a task: it costs nothing on top of them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal

from nemo_run.core.execution.pods.client import Object
from nemo_run.errors import ExecutorError

_SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1), "k": Decimal(1000),
    "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(1 << 10), "Mi": Decimal(1 << 20), "Gi": Decimal(1 << 30), "Ti": Decimal(1 << 40),
    "Pi": Decimal(1 << 50), "Ei": Decimal(1 << 60),
}  # fmt: skip
_QUANTITY = re.compile(r"([0-9]*\.?[0-9]+|[0-9]+\.)(?:[eE]([+-]?[0-9]{1,3})|([A-Za-z]{0,2}))")

_RESERVED = {"cpu": Decimal("0.01"), "memory": Decimal(32 << 20)}
_LIMITED = {"cpu": Decimal("0.1"), "memory": Decimal(32 << 20)}
"""The most that is taken: of a request alone, and of a limit, within which the artifacts are packed."""


def quantity(value: object) -> Decimal | None:
    """Return an amount as Kubernetes writes it as a number; ``None`` if it is none.

    >>> quantity("500m"), quantity("1Gi"), quantity(2), quantity("much")
    (Decimal('0.500'), Decimal('1073741824'), Decimal('2'), None)
    """
    match = _QUANTITY.fullmatch(str(value).strip())
    if match is None or (match[3] or "") not in _SUFFIXES:
        return None
    return Decimal(match[1]) * (Decimal(10) ** int(match[2]) if match[2] else _SUFFIXES[match[3] or ""])


def check_amount(where: str, name: str, amount: object) -> None:
    """Raise :class:`~nemo_run.errors.ExecutorError` where an amount that is given is none."""
    if amount and quantity(amount) is None:
        raise ExecutorError(f"{where}: {amount!r} is no amount of {name}; write e.g. '500m' or '64Gi'")


def check_amounts(where: str, requests: Mapping[str, object], limits: Mapping[str, object]) -> None:
    """Raise :class:`~nemo_run.errors.ExecutorError` where an amount is none, or more is reserved than may be used."""
    for kind, amounts in (("requests", requests), ("limits", limits)):
        for name, amount in amounts.items():
            field = f"{name}_{kind}" if name in ("cpu", "memory") else f"extra_resource_{kind}[{name!r}]"
            check_amount(f"{where}.{field}", name, amount)
    for name, limit in limits.items():
        wanted, most = quantity(requests.get(name) or "0"), quantity(limit or "0")
        if wanted and most and wanted > most:
            raise ExecutorError(f"{where}: {requests[name]} of {name} are reserved, but only {limit} may be used")


def has_whole_cores(resources: Mapping[str, Mapping[str, object]]) -> bool:
    """Return whether a node may give a container of these resources cores of its own (static CPU manager).

    >>> has_whole_cores({"limits": {"cpu": "4", "memory": "1Gi"}})
    True
    >>> has_whole_cores({"limits": {"cpu": "4", "memory": "1Gi"}, "requests": {"cpu": "2"}})
    False
    """
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    for name in ("cpu", "memory"):
        limit = quantity(limits.get(name))
        if not limit or quantity(requests.get(name, limits[name])) != limit:
            return False
    cores = quantity(limits["cpu"])
    return cores is not None and cores % 1 == 0


def shared(resources: Mapping[str, Mapping[str, object]]) -> tuple[Object, Object]:
    """Return the resources of a task as its own container and the keeper share them.

    Whatever the task has a request or a limit of, the keeper has too, and the sum is what was asked for. Where requests
    equal limits, they do so in both containers.

    >>> shared({"requests": {"cpu": "2"}, "limits": {"cpu": "2", "nvidia.com/gpu": "1"}})[0]
    {'requests': {'cpu': '1900m'}, 'limits': {'cpu': '1900m', 'nvidia.com/gpu': '1'}}
    >>> shared({"requests": {"memory": "1Gi"}})
    ({'requests': {'memory': '992Mi'}}, {'requests': {'memory': '32Mi'}})
    """
    task: Object = {kind: dict(values) for kind, values in resources.items()}
    keeper: Object = {}
    for name in ("cpu", "memory"):
        taken = _taken(name, resources)
        for kind in ("requests", "limits"):
            whole = quantity(resources.get(kind, {}).get(name))
            if whole and taken:
                task[kind][name] = _written(name, whole - taken)
                keeper.setdefault(kind, {})[name] = _written(name, taken)
    return task, keeper


def _taken(name: str, resources: Mapping[str, Mapping[str, object]]) -> Decimal | None:
    limit = quantity(resources.get("limits", {}).get(name))
    request = quantity(resources.get("requests", {}).get(name))
    known = [amount for amount in (limit, request) if amount]
    if not known:
        return None
    return min(_LIMITED[name] if limit else _RESERVED[name], min(known) / 4)


def _written(name: str, amount: Decimal) -> str:
    """Return an amount as Kubernetes writes it: CPU in whole or thousandth cores, memory in bytes or MiB."""
    if name == "cpu":
        millis = int(amount * 1000)
        return str(millis // 1000) if millis % 1000 == 0 else f"{millis}m"
    size = int(amount)
    return f"{size >> 20}Mi" if size % (1 << 20) == 0 else str(size)
