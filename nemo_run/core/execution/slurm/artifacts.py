"""Bringing what tasks left on a cluster: what is small comes for many ended tasks in one command."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from nemo_run.core.execution.shared import leftovers
from nemo_run.core.packaging.globs import Patterns
from nemo_run.core.tunnel.answers import posix
from nemo_run.core.tunnel.client import Tunnel
from nemo_run.errors import CommandError

_AT_ONCE = 200  # folders of one command

# For every folder of artifacts a line: its number, and an archive of it where it is small; "-" where it is empty.
_SMALL = f"""
n=0
while IFS= read -r folder; do
  if cd -- "$folder" 2>/dev/null; then
    set -- * .[!.]* ..?*
    if [ "$*" = '* .[!.]* ..?*' ]; then echo "$n -"
    elif [ "$(du -sk . | cut -f 1)" -le 256 ]; then
      printf '%s ' "$n"; {{ {leftovers.PACK_ALL}; }} | base64 | tr -d '\\n'; echo
    fi
  fi
  n=$((n + 1))
done"""


class Fetcher:
    """Fetches artifacts of ended tasks.

    Args:
        tunnel: The way to the cluster.
    """

    def __init__(self, tunnel: Tunnel) -> None:
        self._tunnel = tunnel
        self._lock = threading.Lock()
        self._asked: set[str] = set()
        self._small: dict[str, bytes] = {}  # archives that came with those of others, by folder

    def fetch(self, source: str, folder: Path, others: Iterable[str]) -> dict[str, str]:
        """Fetch all files below a folder of artifacts, and return what is no file or could not be read.

        Args:
            source: The folder on the cluster.
            folder: Where they go.
            others: Folders that are going to be fetched as well; what is small comes at once.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._lock:
            if source not in self._small and source not in self._asked:
                self._ask([source, *(other for other in others if other not in self._asked and other != source)])
            small = self._small.pop(source, None)
        if small is None:
            return self._fetch_large(source, folder)
        return leftovers.unpack_all(small, folder, source) if small else {}

    def _ask(self, sources: Sequence[str]) -> None:
        sources = [source for source in dict.fromkeys(sources) if "\n" not in source][:_AT_ONCE]
        self._asked.update(sources)
        try:
            answer = self._tunnel.execute(posix(_SMALL), "".join(f"{one}\n" for one in sources).encode())
        except CommandError:  # each is asked for by itself, which says what is wrong
            return
        for line in answer.splitlines():
            number, _, packed = line.partition(b" ")
            self._small[sources[int(number)]] = b"" if packed == b"-" else base64.b64decode(packed)

    def _fetch_large(self, source: str, folder: Path) -> dict[str, str]:
        left: dict[str, str] = {}
        pack = posix(f'cd -- "$1" && {leftovers.PACK}', source)
        said = self._tunnel.read(pack, lambda archive: left.update(leftovers.unpack(archive, folder, source)))
        return left | leftovers.complaints(said)

    def fetch_matching(self, source: str, patterns: Sequence[str], folder: Path) -> None:
        """Fetch the files below a folder that match one of the patterns."""
        wanted = Patterns(patterns, descend=True)
        out = self._tunnel.execute(posix('cd -- "$1" 2>/dev/null && find -L . -type f -print0; true', source))
        there = (name.decode("utf-8", "surrogateescape").removeprefix("./") for name in out.split(b"\0") if name)
        if names := [name for name in there if wanted.match(name)]:
            self._tunnel.get_all(source, names, folder)
