"""Images are built, and pushed to a registry, by a Docker engine."""

from __future__ import annotations

import re
import tempfile
from collections import deque
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nemo_run.core.execution.docker.client import LABEL
from nemo_run.core.images import Image
from nemo_run.errors import ExecutorError

if TYPE_CHECKING:
    from docker import DockerClient as SdkClient

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_SHOWN = 20  # lines of a build that failed


def provide(client: SdkClient, image: Image) -> None:
    """Build an image, and push it where it asks for that; where there is one of its name, it has the same content.

    Raises:
        ExecutorError: It cannot be built, or the registry refuses it.
    """
    import docker

    name = image.name
    if image.push_to and _is_in_registry(client, name):
        return
    try:
        client.images.get(name)
    except docker.errors.ImageNotFound:
        _build(client, image, name)
    if image.push_to:
        _push(client, name)


def _is_in_registry(client: SdkClient, name: str) -> bool:
    import docker

    try:
        client.api.inspect_distribution(name)  # type: ignore[no-untyped-call]
    except docker.errors.APIError:  # it is not there, or the registry says so only to those who may push
        return False
    return True


def _build(client: SdkClient, image: Image, name: str) -> None:
    options: dict[str, Any] = {
        "tag": name, "buildargs": image.build_args, "target": image.target, "network_mode": image.network or None,
        "labels": {f"{LABEL}.image": ""}, "rm": True, "forcerm": True, "decode": True,
    }  # fmt: skip
    if image.uv_lock:
        with tempfile.TemporaryDirectory() as folder:
            for file, content in image.own_files().items():
                Path(folder, file).write_bytes(content)
            events = client.api.build(path=folder, **options)
    else:
        dockerfile = str(Path(image.dockerfile).absolute())
        events = client.api.build(path=str(image.folder.absolute()), dockerfile=dockerfile, **options)
    _follow(events, f"building {name}", f"the image {name!r} could not be built", "")


def _push(client: SdkClient, name: str) -> None:
    repository, _, tag = name.rpartition(":")
    events = client.api.push(repository, tag=tag, stream=True, decode=True)
    how = "; log in to its registry (docker login), or correct push_to="
    _follow(events, f"pushing {name}", f"the image {name!r} could not be pushed", how)


def _follow(events: Iterable[Mapping[str, Any]], doing: str, failure: str, how: str) -> None:
    """Show how far the engine is; raise an error where it fails."""
    from rich.console import Console
    from rich.text import Text

    lines: deque[str] = deque(maxlen=_SHOWN)
    with Console(stderr=True).status(Text(doing)) as status:
        for event in events:
            if "error" in event:
                said = "\n".join(lines)
                raise ExecutorError(f"{failure}: {event['error']}{how}" + (f"\n{said}" if said else ""))
            if line := _COLOURS.sub("", str(event.get("stream", ""))).strip():
                lines.append(line)
                status.update(Text(f"{doing}: {line[:100]}"))
