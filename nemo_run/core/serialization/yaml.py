"""A configuration as YAML."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Any

from nemo_run.config.export import load_config, to_yaml

if TYPE_CHECKING:
    import fiddle as fdl


class YamlSerializer:
    """Stores a configuration as YAML; the same as ``cfg.to_yaml()`` and ``run.load_config(text)``.

    Example:
        >>> import nemo_run as run
        >>> print(YamlSerializer().serialize(run.Config(complex, real=1.5)), end="")
        _target_: builtins.complex
        real: 1.5
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take anything, and needs nothing."""

    def serialize(self, cfg: fdl.Buildable[Any], stream: IO[str] | None = None) -> str:
        """Write a configuration; to ``stream``, too, if there is one."""
        text = to_yaml(cfg)
        if stream is not None:
            stream.write(text)
        return text

    def deserialize(self, serialized: str) -> fdl.Buildable[Any]:
        """Read a configuration; what it refers to is imported, but not called."""
        config: fdl.Buildable[Any] = load_config(serialized, format="yaml", validate=False)
        return config
