"""Configurations as text, and back: YAML, TOML, JSON and Python source.

YAML, TOML and JSON hold the document of :mod:`nemo_run.config.document`, which Hydra's ``instantiate`` builds too.
Where a format lacks a word, a call that Hydra knows stands for it: TOML has no null, which is
``{_target_ = "json.loads", _args_ = ["null"]}``, and JSON has no NaN and no infinity, which are
``{"_target_": "builtins.float", "_args_": ["nan"]}``.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args

from nemo_run.config.document import from_document, to_document
from nemo_run.config.document.layout import ARGS, CONVERT, TARGET, shown
from nemo_run.errors import ConfigError, SerializationError

Format = Literal["yaml", "toml", "json"]

_FORMAT_OF_SUFFIX: dict[str, Format] = {".yaml": "yaml", ".yml": "yaml", ".toml": "toml", ".json": "json"}
_LONGEST_NUMBER = 13_000  # bits: some 3,900 digits, of the 4,300 that Python writes out
_TOML_LINE = re.compile(r"""\s*(\[.+\]|[\w.\-"' ]+=.*)""")


# ---------------------------------------------------------------- writing
def to_yaml(cfg: Any, path: str | os.PathLike[str] | None = None) -> str:
    """Write a configuration as YAML.

    Args:
        cfg: The configuration.
        path: A file to write it to, too. An existing file is replaced at once, never half.

    Example:
        >>> import nemo_run as run
        >>> print(to_yaml(run.Config(complex, real=1.5)), end="")
        _target_: builtins.complex
        real: 1.5

    Raises:
        SerializationError: If something in it cannot be stored.
    """
    return write_document(_for_hydra(to_document(cfg, mark=True)), "yaml", path)


def to_json(cfg: Any, path: str | os.PathLike[str] | None = None) -> str:
    """Write a configuration as JSON; see :func:`to_yaml`."""
    return write_document(_for_hydra(to_document(cfg, mark=True)), "json", path)


def to_toml(cfg: Any, path: str | os.PathLike[str] | None = None) -> str:
    """Write a configuration as TOML; see :func:`to_yaml`. In each table, plain values come before tables."""
    return write_document(_for_hydra(to_document(cfg, mark=True)), "toml", path)


def write_document(document: Any, format: Format, path: str | os.PathLike[str] | None = None) -> str:
    """Write a plain document; nothing that it names is imported.

    Args:
        document: The document, as :func:`load_document` gives it.
        format: ``"yaml"``, ``"toml"`` or ``"json"``.
        path: A file to write it to, too.

    Example:
        >>> print(write_document({"_target_": "nowhere.Model", "size": 3}, "toml"), end="")
        _target_ = "nowhere.Model"
        size = 3

    Raises:
        SerializationError: If the format cannot hold it, or the file cannot be written.
    """
    writers = {"yaml": _yaml_text, "toml": _toml_text, "json": _json_text}
    return _written(writers[format](document), path)


def _yaml_text(document: Any) -> str:
    from nemo_run.config.export_yaml import dump

    try:
        return dump(document)
    except UnicodeEncodeError as e:  # half of a pair of surrogates, as names of files may have
        raise SerializationError(f"YAML cannot hold the text {ascii(e.object)[:100]}; use JSON") from e


def _toml_text(document: Any) -> str:
    import tomli_w

    if not isinstance(document, dict):
        raise SerializationError(f"a TOML file is a table, which {type(document).__name__} is not; use YAML or JSON")
    return tomli_w.dumps(_replace(document, _spell_out_none))


def _json_text(document: Any) -> str:
    try:
        text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_replace(document, _spell_out_nan), indent=2, ensure_ascii=False, allow_nan=False)
    return text + "\n"


def to_python(cfg: Any, path: str | os.PathLike[str] | None = None) -> str:
    """Write Python source that makes an equal configuration, and calls it ``config``.

    Args:
        cfg: The configuration.
        path: A file to write it to, too.

    Example:
        >>> import nemo_run as run
        >>> print(to_python(run.Config(complex, real=1.5)), end="")
        import nemo_run as run
        <BLANKLINE>
        config = run.Config(complex, real=1.5)

    Raises:
        SerializationError: If something in it cannot be stored.
    """
    from nemo_run.config.export_python import source

    return _written(source(cfg), path)


def _for_hydra(document: Any) -> Any:
    """Tell Hydra to hand lists and dicts over as such, where there are any."""
    if not isinstance(document, dict) or TARGET not in document or CONVERT in document or not _has_containers(document):
        return document
    return {TARGET: document[TARGET], CONVERT: "all", **document}


def _has_containers(document: Any) -> bool:
    if isinstance(document, dict):
        return TARGET not in document or any(map(_has_containers, document.values()))
    return isinstance(document, list)


def _replace(document: Any, replace: Callable[[Any], Any]) -> Any:
    """Return a copy of a document with every leaf replaced."""
    if isinstance(document, dict):
        return {name: _replace(value, replace) for name, value in document.items()}
    if isinstance(document, list):
        return [_replace(value, replace) for value in document]
    return replace(document)


def _spell_out_nan(leaf: Any) -> Any:
    finite = not isinstance(leaf, float) or math.isfinite(leaf)
    return leaf if finite else {TARGET: "builtins.float", ARGS: [repr(leaf)]}


def _spell_out_none(leaf: Any) -> Any:
    return {TARGET: "json.loads", ARGS: ["null"]} if leaf is None else leaf


def _written(text: str, path: str | os.PathLike[str] | None) -> str:
    if path is not None:
        try:
            _write_atomically(Path(path), text)
        except (OSError, UnicodeError) as error:
            raise SerializationError(f"cannot write {os.fspath(path)!r}: {error}") from error
    return text


def _write_atomically(path: Path, text: str) -> None:
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o777)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


# ---------------------------------------------------------------- reading
def load_config(path_or_text: str | os.PathLike[str], *, format: Format | None = None, validate: bool = True) -> Any:
    r"""Read a configuration from a file or a text in YAML, TOML or JSON.

    The classes and functions that it names are imported, but nothing is called.

    Args:
        path_or_text: A file, or the text itself.
        format: ``"yaml"``, ``"toml"`` or ``"json"``; found by the suffix of the file, or by looking, if not given.
        validate: Check each argument against its type hint.

    Returns:
        A :class:`nemo_run.Config` or :class:`nemo_run.Partial` equal to the one that was written; of a text without
        ``_target_`` at the top, the dict or list that it holds.

    Example:
        >>> load_config("_target_: builtins.complex\nreal: 1.5")
        <Config[complex(real=1.5)]>

    Raises:
        SerializationError: If the file cannot be read, or names something that is not there.
        UnknownFieldError: If it gives an argument that its target does not have.
        ConfigTypeError: If an argument does not fit its type hint.
    """
    document, source = _read(path_or_text, format)
    try:
        return from_document(document, validate=validate)
    except ConfigError as error:
        if source is None:
            raise
        raise type(error)(f"{source}: {error}") from error


def load_document(path_or_text: str | os.PathLike[str], *, format: Format | None = None) -> Any:
    """Read what :func:`load_config` reads as a plain document, without importing anything that it names.

    Example:
        >>> load_document('{"_target_": "nowhere.Model", "size": 3}')
        {'_target_': 'nowhere.Model', 'size': 3}
    """
    return _read(path_or_text, format)[0]


def load_words(path_or_text: str | os.PathLike[str]) -> Any:
    r"""Read what :func:`load_document` reads, but of YAML a word such as ``off`` as one that may be just a name.

    Example:
        >>> load_words("mode: off\n")["mode"].meant
        False
    """
    from nemo_run.config import export_yaml

    return _read(path_or_text, None, {"yaml": export_yaml.load_words})[0]


def _read(
    path_or_text: str | os.PathLike[str],
    format: Format | None,
    parsers: Mapping[Format, Callable[[str], Any]] = MappingProxyType({}),
) -> tuple[Any, str | None]:
    """Return the document, and the file that it is from."""
    if format is not None and format not in get_args(Format):
        raise SerializationError(f"unknown format {format!r}; it is one of {', '.join(get_args(Format))}")
    file = _file(path_or_text)
    if file is None:
        text = os.fspath(path_or_text)
        return _parse(text, format or _format_of(text), "the text", parsers), None
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        raise SerializationError(f"cannot read {str(file)!r}: {error}") from error
    found = format or _FORMAT_OF_SUFFIX.get(file.suffix) or _format_of(text)
    return _parse(text, found, str(file), parsers), str(file)


def _file(path_or_text: str | os.PathLike[str]) -> Path | None:
    """Return the file that is meant; ``None`` if it is a text."""
    if not isinstance(path_or_text, str):
        return Path(path_or_text)
    if "\n" in path_or_text or path_or_text.lstrip()[:1] in {"{", "["}:
        return None
    path = Path(path_or_text)
    if path.suffix == ".py":
        raise SerializationError(f"{path_or_text!r} is Python source, which is not loaded: import it, or run it")
    if path.suffix in _FORMAT_OF_SUFFIX and ": " not in path_or_text:
        return path
    return path if _is_there(path) else None


def _is_there(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for a name, or no name at all
        return False


def _format_of(text: str) -> Format:
    """Return the format that a text seems to be in."""
    if text.lstrip()[:1] in {"{", "["} and _is_json(text):
        return "json"
    first = next((line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")), "")
    return "toml" if _TOML_LINE.fullmatch(first) else "yaml"


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _parse(text: str, format: Format, source: str, parsers: Mapping[Format, Callable[[str], Any]]) -> Any:
    parse = parsers.get(format) or _parser(format)
    try:
        document = parse(text)
        _check_numbers(document)
    except ValueError as error:
        raise SerializationError(f"cannot read {source} as {format.upper()}: {error}") from error
    except RecursionError:
        raise SerializationError(f"cannot read {source} as {format.upper()}: it is nested too deeply") from None
    if isinstance(document, (dict, list)):
        return document
    if document is None:
        raise SerializationError(f"{source} is empty: it holds no configuration")
    raise SerializationError(f"{source} holds no configuration, and no file is named so: {shown(document)}")


def _check_numbers(document: Any) -> None:
    """Refuse an integer that Python would not write out: in base 60, 16 or 2 a file can hold one."""
    seen: set[int] = set()
    todo = [document]
    while todo:
        node = todo.pop()
        if isinstance(node, int) and node.bit_length() > _LONGEST_NUMBER:
            raise ValueError("a number in it is too long; write it as a text")
        if isinstance(node, (dict, list)) and id(node) not in seen:  # aliases make one node many
            seen.add(id(node))
            todo += [*node, *node.values()] if isinstance(node, dict) else node


def _parser(format: Format) -> Callable[[str], Any]:
    if format == "json":
        return _load_json
    if format == "yaml":
        from nemo_run.config.export_yaml import load

        return load
    return _load_toml


def _load_toml(text: str) -> Any:
    return importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli").loads(text)


def _load_json(text: str) -> Any:
    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            name = next(name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1)
            raise ValueError(f"the key {name!r} is there twice in one object")
        return found

    return json.loads(text, object_pairs_hook=mapping)
