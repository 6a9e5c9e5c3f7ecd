"""The runtime environment of a job: what a YAML file says, the executor's variables, and code from this machine.

Ray's own client does the same before it sends a runtime environment; here it is done without Ray.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nemo_run.core.masking import masked
from nemo_run.core.packaging.archive import READ_SIZE, extract, package_digest
from nemo_run.core.packaging.base import Packager
from nemo_run.core.packaging.repository import git, top_of
from nemo_run.errors import ConfigError, PackagingError

_NOTHING = "${NEMO_RUN_NOTHING}"  # a variable that is never set
_TIME = (1980, 1, 1, 0, 0, 0)  # the same code gives the same package


def read_runtime_env(path: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Return the runtime environment in a YAML file; an empty one without a file.

    Lists of packages that lie in files of their own (``pip: requirements.txt``) are read, relative to that file.

    Raises:
        ConfigError: The file cannot be read, or is not a mapping; the message names it.
    """
    if not path:
        return {}
    file = Path(path).expanduser()
    doc = _load(file)
    if doc.get("env_vars"):
        doc["env_vars"] = _variables(file, doc["env_vars"])
    for name in ("pip", "uv"):
        if isinstance(doc.get(name), str):
            doc[name] = _requirements(_read_beside(file, doc[name]))
    if isinstance(doc.get("conda"), str) and doc["conda"].endswith((".yaml", ".yml")):
        doc["conda"] = _load(file.parent / Path(doc["conda"]).expanduser())
    return doc


def _load(file: Path) -> dict[str, Any]:
    import yaml

    try:
        doc = yaml.safe_load(file.read_text()) or {}
    except OSError as e:
        raise ConfigError(f"{str(file)!r} cannot be read: {e.strerror}; name another file in runtime_env_yaml") from e
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        raise ConfigError(f"{file} is not YAML: {e}") from e
    if not isinstance(doc, dict):
        raise ConfigError(f"{file}: a runtime environment is a mapping (env_vars, pip, …), not {type(doc).__name__}")
    return doc


def _requirements(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def _variables(file: Path, variables: Any) -> dict[str, str]:
    if not isinstance(variables, dict):
        raise ConfigError(f"{file}: env_vars is a mapping of names to values, not {type(variables).__name__}")
    return {str(name): _as_variable(value) for name, value in variables.items()}


def _as_variable(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


def _read_beside(file: Path, name: str) -> str:
    try:
        return (file.parent / Path(name).expanduser()).read_text()
    except OSError as e:
        raise ConfigError(f"{file}: {name!r} cannot be read: {e.strerror}") from e


def exact(variables: Mapping[str, str]) -> dict[str, str]:
    """Return variables that arrive as they are: Ray fills in what looks like a reference, once, and has no escape.

    What it does not know it takes away, and so ends its search for a reference in the middle of one.

    >>> exact({"A": "$HOME", "B": "5"})
    {'A': '$${NEMO_RUN_NOTHING}HOME', 'B': '5'}
    """
    return {name: value.replace("$", "$" + _NOTHING) for name, value in variables.items()}


def with_variables(env: Mapping[str, Any], variables: Mapping[str, str]) -> dict[str, Any]:
    """Return a runtime environment with further variables; its own ones win.

    >>> with_variables({"env_vars": {"A": "1"}}, {"A": "0", "B": "2"})
    {'env_vars': {'A': '1', 'B': '2'}}
    """
    merged = {**variables, **env.get("env_vars", {})}
    return {**env, "env_vars": merged} if merged else dict(env)


def shown(env: Mapping[str, Any]) -> dict[str, Any]:
    """Return a runtime environment in which the values of secrets are masked."""
    return {**env, "env_vars": masked(env["env_vars"])} if "env_vars" in env else dict(env)


def local_folders(env: Mapping[str, Any], workdir: str) -> dict[str, Path]:
    """Return the folders of this machine that a job needs, by their names: the working directory, then modules.

    Raises:
        ConfigError: One of them is not there.
    """
    wanted = [workdir or env.get("working_dir") or "", *(env.get("py_modules") or [])]
    folders = {name: Path(name).expanduser() for name in wanted if _is_folder(name)}
    for name, folder in folders.items():
        if not folder.is_dir():
            raise ConfigError(
                f"there is no folder {name!r} to send to the Ray cluster; correct `workdir`, or create it"
            )
    return folders


def _is_folder(name: object) -> bool:
    return isinstance(name, str) and bool(name) and not _is_uri(name)


def _is_uri(text: str) -> bool:
    return "://" in text


def with_code(env: Mapping[str, Any], workdir: str, upload: Callable[[str], str]) -> dict[str, Any]:
    """Return a runtime environment in which folders of this machine are replaced by what ``upload`` makes of them."""
    result = {name: value for name, value in env.items() if name != "excludes"}
    if name := workdir or env.get("working_dir"):
        result["working_dir"] = name if _is_uri(name) else upload(name)
    if env.get("py_modules"):
        result["py_modules"] = [name if _is_uri(name) else upload(name) for name in env["py_modules"]]
    return result


# --- packages of code --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def packed(folder: Path, packager: Packager, env: Mapping[str, Any], name: str) -> Iterator[Path]:
    """Return a folder as a zip file whose name says what is in it, for as long as the context is open.

    Args:
        folder: The folder.
        packager: Says which code goes along; a plain one sends the folder, less what git ignores.
        env: The runtime environment; its ``excludes`` are further patterns of what is left out, as in ``.gitignore``.
        name: How the folder is named there. Of a module, the folder itself is part of the package.

    Raises:
        PackagingError: The code cannot be packaged.
    """
    with tempfile.TemporaryDirectory(prefix="nemo-run-ray-") as scratch:
        archive = packager.package(folder, scratch, "code")
        if archive:
            source = extract(archive, Path(scratch, "code"))
            files = [str(path.relative_to(source)) for path in source.rglob("*")]
        else:
            source, files = folder, _not_ignored(folder, env.get("excludes") or (), Path(scratch))
        package = Path(scratch, "package.zip")
        _write_zip(source, files, package, folder.name if name in (env.get("py_modules") or ()) else "")
        named = package.with_name(f"_ray_pkg_{package_digest(package)[:32]}.zip")
        package.rename(named)
        yield named


def _not_ignored(folder: Path, excludes: Sequence[str], scratch: Path) -> list[str]:
    """Return the files of a folder, less those that git ignores, whether it is in a repository or not."""
    repository = scratch / "repository"
    if not repository.exists():
        git(scratch, "init", "--quiet", str(repository))
    alone = {"GIT_DIR": str(repository / ".git"), "GIT_WORK_TREE": str(folder.absolute())}

    def listed(*options: str, env: Mapping[str, str] | None = None) -> set[str]:
        return set(os.fsdecode(git(folder, "ls-files", "-z", *options, "--", ".", env=env)).split("\0")) - {""}

    names = listed("--cached", "--others", "--exclude-standard", env=alone if top_of(folder) is None else None)
    if excludes:  # relative to the folder, wherever in a repository it is
        names -= listed("--others", "--ignored", *(f"--exclude={pattern}" for pattern in excludes), env=alone)
    inner = _repositories(folder, names)
    return [*names, *(f"{name}/{file}" for name in inner for file in _not_ignored(folder / name, excludes, scratch))]


def _repositories(folder: Path, names: Iterable[str]) -> list[str]:
    """Return the folders among the names that git lists: repositories, of which it gives nothing but the folder."""
    folders = (name.rstrip("/") for name in names)
    return [name for name in folders if (folder / name).is_dir() and not (folder / name).is_symlink()]


def _write_zip(source: Path, files: Iterable[str], target: Path, top: str) -> None:
    """Write files as a zip file, in one order and with one time; links become what they lead to."""
    prefix = f"{top}/" if top else ""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        for name in sorted(files):
            path = source / name
            try:
                if not path.is_file():  # a folder, or tracked by git and deleted here
                    continue
                entry = zipfile.ZipInfo(prefix + name, _TIME)
                entry.compress_type = zipfile.ZIP_DEFLATED
                executable = path.stat().st_mode & stat.S_IXUSR
                entry.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
                with path.open("rb") as file, out.open(entry, "w", force_zip64=path.stat().st_size > 1 << 30) as into:
                    shutil.copyfileobj(file, into, READ_SIZE)
            except OSError as e:
                raise PackagingError(f"{path}: cannot be packaged: {e.strerror}") from e
