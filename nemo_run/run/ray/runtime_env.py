"""The runtime environment of a job: what a YAML file says, the executor's variables, and where its code is.

Ray's own client does the same before it sends a runtime environment; here it is done without Ray.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from nemo_run.config.suggest import did_you_mean
from nemo_run.core.masking import masked
from nemo_run.errors import ConfigError
from nemo_run.run.ray.packages import check_local, is_uri

_NOTHING = "${NEMO_RUN_NOTHING}"  # a variable that is never set
_FIELDS = (
    "_inject_current_ray", "conda", "config", "container", "env_vars", "excludes", "image_uri", "java_jars", "mpi",
    "nsight", "pip", "py_executable", "py_modules", "rocprof_sys", "uv", "worker_process_setup_hook", "working_dir",
)  # fmt: skip
_OF_CONFIG = ("eager_install", "log_files", "setup_timeout_seconds")


def read_runtime_env(path: str | os.PathLike[str] | None) -> dict[str, Any]:
    """Return the runtime environment in a YAML file; an empty one without a file.

    Lists of packages that lie in files of their own (``pip: requirements.txt``) are read: relative to the current
    folder, as Ray does, or else to that file.

    Raises:
        ConfigError: The file cannot be read, is not a mapping, or has a field that Ray does not know; the message
            names it.
    """
    if not path:
        return {}
    file = Path(path).expanduser()
    doc = _load(file)
    _check_fields(file, "", doc, _FIELDS)
    _check_fields(file, "config.", doc.get("config") or {}, _OF_CONFIG)
    if doc.get("env_vars"):
        doc["env_vars"] = _variables(file, doc["env_vars"])
    for name in ("pip", "uv"):
        if isinstance(doc.get(name), str):
            doc[name] = _requirements(_read_near(file, doc[name]))
        elif isinstance(doc.get(name), dict) and isinstance(doc[name].get("packages"), str):
            doc[name] = {**doc[name], "packages": _requirements(_read_near(file, doc[name]["packages"]))}
    if isinstance(doc.get("conda"), str) and doc["conda"].endswith((".yaml", ".yml")):
        doc["conda"] = _load(_near(file, doc["conda"]))
    return doc


def _check_fields(file: Path, where: str, doc: Iterable[Any], known: Iterable[str]) -> None:
    for name in map(str, doc):
        if name not in known:
            raise ConfigError(f"{file}: a runtime environment has no field {where}{name!r}{did_you_mean(name, known)}")


def _near(file: Path, name: str) -> Path:
    """Return a file that another one names: below the current folder, as Ray has it, or else beside that one."""
    here = Path(name).expanduser()
    return here if here.is_file() else file.parent / here


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


def _read_near(file: Path, name: str) -> str:
    try:
        return _near(file, name).read_text()
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
    """Return the folders and files of this machine that a job needs, by their names: working directory, modules.

    Raises:
        ConfigError: One of them is not there.
    """
    wanted = [workdir or env.get("working_dir") or "", *(env.get("py_modules") or [])]
    folders = {name: Path(name).expanduser() for name in wanted if name and not is_uri(name)}
    for name, folder in folders.items():
        check_local(name, folder)
    return folders


def with_code(env: Mapping[str, Any], workdir: str, upload: Callable[[str], str]) -> dict[str, Any]:
    """Return a runtime environment in which folders of this machine are replaced by what ``upload`` makes of them."""
    result = {name: value for name, value in env.items() if name != "excludes"}
    if name := workdir or env.get("working_dir"):
        result["working_dir"] = name if is_uri(name) else upload(name)
    if env.get("py_modules"):
        result["py_modules"] = [name if is_uri(name) else upload(name) for name in env["py_modules"]]
    return result
