"""A configuration as one short line of text, for a command line or an environment variable."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from typing import TYPE_CHECKING, Any

from nemo_run.config.document import from_document, to_document
from nemo_run.config.document.symbols import name_of, resolve
from nemo_run.errors import SerializationError

if TYPE_CHECKING:
    import fiddle as fdl
    from fiddle._src.experimental.serialization import PyrefPolicy

_FIDDLE_KEYS = frozenset({"root", "objects", "refcounts", "version"})


class ZlibJSONSerializer:
    """Stores a configuration as base64 of compressed JSON, safe in a URL, a shell word and a file name.

    It also reads what NeMo-Run and fiddle have stored in this way.

    Example:
        >>> import nemo_run as run
        >>> serializer = ZlibJSONSerializer()
        >>> text = serializer.serialize(run.Config(dict, a=1))
        >>> serializer.deserialize(text) == run.Config(dict, a=1)
        True
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take anything, and needs nothing."""

    def serialize(self, cfg: fdl.Buildable[Any], pyref_policy: PyrefPolicy | None = None) -> str:
        """Write a configuration.

        Args:
            cfg: The configuration.
            pyref_policy: Which classes and functions may be in it; all, if not given.

        Raises:
            SerializationError: If something in it cannot be stored.
        """

        def reference(symbol: Any) -> str:
            name = name_of(symbol)
            _resolve(name, pyref_policy)
            return name

        return pack(to_document(cfg, reference=reference))

    def deserialize(self, serialized: str, pyref_policy: PyrefPolicy | None = None) -> fdl.Buildable[Any]:
        """Read a configuration; what it refers to is imported, but not called.

        Args:
            serialized: What :meth:`serialize` has returned.
            pyref_policy: Which classes and functions may be in it; all, if not given.

        Raises:
            SerializationError: If the text is damaged, or something that it refers to is not there.
        """
        document = unpack(serialized)
        if isinstance(document, dict) and document.keys() >= _FIDDLE_KEYS:
            return _from_fiddle(document, pyref_policy)
        config: fdl.Buildable[Any] = from_document(document, resolve=lambda name: _resolve(name, pyref_policy))
        return config


def pack(document: Any) -> str:
    """Write a document as one word of text."""
    text = json.dumps(document, separators=(",", ":"))
    return base64.urlsafe_b64encode(zlib.compress(text.encode())).decode("ascii")


def unpack(text: str) -> Any:
    """Read the document that :func:`pack` has written; imports nothing."""
    try:
        return json.loads(zlib.decompress(base64.urlsafe_b64decode(text)))
    except (binascii.Error, zlib.error, ValueError, TypeError) as error:
        raise SerializationError(
            f"this is not a stored configuration, or it is damaged ({error}); "
            "it must be exactly what ZlibJSONSerializer.serialize returned"
        ) from error


def _resolve(name: str, policy: PyrefPolicy | None) -> Any:
    if policy is None:
        return resolve(name)
    found = resolve(name, policy.allows_import)
    if not policy.allows_value(found):
        raise SerializationError(f"{name!r} is not allowed by {policy!r}")
    return found


def _from_fiddle(document: dict[str, Any], policy: PyrefPolicy | None) -> fdl.Buildable[Any]:
    from fiddle._src.experimental import serialization

    try:
        config: fdl.Buildable[Any] = serialization.load_json(json.dumps(document), policy)
    except Exception as error:  # fiddle raises whatever its parts raise
        raise SerializationError(f"cannot load this configuration, stored by fiddle: {error}") from error
    return config
