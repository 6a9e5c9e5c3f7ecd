"""The same pages as files, to share: without secrets, and without a server."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from nemo_run.core.files import make_folder, write_text
from nemo_run.errors import ExperimentError, NemoRunError
from nemo_run.run import catalog
from nemo_run.run.overview import overview
from nemo_run.run.store import ExperimentStore
from nemo_run.ui import reading
from nemo_run.ui.logs import KeptLog, LogName

STATIC = Path(__file__).parent / "static"
_LARGEST_LOG = 512 << 10  # bytes: of a longer one, its end


def export(folder: Path, ids: Sequence[str] = (), base: str | None = None) -> list[str]:
    """Write the pages of experiments into a folder.

    Args:
        folder: The folder; it must not hold anything else.
        ids: The experiments; all by default.
        base: Folder in place of the NeMo-Run home.

    Returns:
        The ids of the experiments.

    Raises:
        ExperimentError: The folder holds other files.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "data.js").is_file():
        raise ExperimentError(f"{folder} is not empty; name a new folder to export to")
    stores = [catalog.find(one, base) for one in ids] or catalog.launched(base=base)
    documents: dict[str, Any] = {"api/experiments": [reading.row(overview(store)) for store in reversed(stores)]}
    for store in stores:
        documents.update(documents_of(store))
    make_folder(folder)
    shutil.copytree(STATIC, folder / "static", dirs_exist_ok=True)
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    marker = '<script src="static/theme.js"></script>'
    write_text(folder / "index.html", page.replace(marker, f'{marker}\n<script src="data.js"></script>'))
    # As JavaScript, which a browser reads from files; "<" is escaped although no markup is around it.
    text = reading.dumps({"documents": documents}).replace(b"<", b"\\u003c")
    write_text(folder / "data.js", b"window.nemorunExport=" + text + b";\n")
    return [store.id for store in stores]


def documents_of(store: ExperimentStore) -> dict[str, Any]:
    """Return all documents of an experiment by the addresses that a page asks for; what cannot be read is left out."""
    found: dict[str, Any] = {}
    root = f"api/experiments/{quote(store.id, safe='')}"

    def add(address: str, read: Callable[[], Any]) -> None:
        try:
            found[address] = read()
        except (NemoRunError, OSError):
            pass

    add(root, lambda: reading.stored_experiment(store))
    for name, read in (("outcomes", reading.outcomes), ("metrics", reading.metrics), ("trials", reading.trials)):
        add(f"{root}/{name}", lambda read=read: read(store))  # type: ignore[misc]
    add(f"{root}/artifacts", lambda: reading.artifact_list(store))
    add(f"{root}/provenance", lambda: reading.provenance(store))
    for job in found.get(root, {}).get("jobs", []):
        query = urlencode({"job": job["id"]})
        add(f"{root}/configuration?{query}", lambda job=job: reading.configuration(store, job["id"]))  # type: ignore[misc]
        add(f"{root}/metrics?{query}", lambda job=job: reading.metrics(store, [job["id"]]))  # type: ignore[misc]
        add(f"{root}/artifacts?{query}", lambda job=job: reading.artifact_list(store, job["id"]))  # type: ignore[misc]
        for number, task in enumerate(job["tasks"]):
            for attempt in task["attempts"]:
                log = LogName(store.id, job["id"], number, attempt["attempt"], None)
                query = urlencode({"job": log.job, "task": number, "attempt": log.attempt})
                add(f"{root}/log?{query}", lambda log=log: _log(store, log))  # type: ignore[misc]
    return found


def _log(store: ExperimentStore, name: LogName) -> dict[str, Any]:
    """Return the end of a log that is among the experiment's files; engines are not asked."""
    log = KeptLog(store, name)
    try:
        piece = log.read_lines(-_LARGEST_LOG)
    finally:
        log.close()
    text = piece.content.decode("utf-8", "replace")
    return {"start": piece.start, "end": piece.end, "size": piece.size, "text": text, "problem": ""}
