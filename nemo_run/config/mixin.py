"""What a class needs to be turned into a configuration; importing it is cheap on purpose."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import graphviz
    from typing_extensions import Self

    from nemo_run.config.buildable import Config
    from nemo_run.config.diff import ConfigDiff


class ConfigurableMixin:
    """Gives a dataclass a configuration of itself, and what can be done with one.

    A class that is not a dataclass overrides :meth:`to_config`.

    Example:
        >>> import dataclasses
        >>> import nemo_run as run
        >>> @dataclasses.dataclass
        ... class Model(run.ConfigurableMixin):
        ...     size: int = 1
        >>> Model(size=2).to_config()
        <Config[Model(size=2)]>
    """

    __module__ = "nemo_run.config"

    def to_config(self) -> Config[Self]:
        """Return a :class:`nemo_run.Config` that builds an equal object."""
        from nemo_run.config.buildable import Config
        from nemo_run.config.convert import dataclass_to_config

        instance: Any = self
        if isinstance(instance, (list, tuple, dict)):
            return instance  # type: ignore[return-value]  # a container of configurations stands for itself
        if not dataclasses.is_dataclass(instance):
            raise NotImplementedError(
                f"{type(self).__qualname__} is not a dataclass, so how it is configured is not known: "
                f"override to_config() in it"
            )
        config: Config[Self] = dataclass_to_config(instance, Config)
        return config

    def _own_config(self) -> Any:
        """Return the configuration of a class that overrides :meth:`to_config`; None where its fields tell all."""
        return None if type(self).to_config is ConfigurableMixin.to_config else self.to_config()

    def diff(self, old: Self, trim: bool = True, **kwargs: Any) -> ConfigDiff:
        """Return what has changed since ``old``."""
        from nemo_run.config.diff import diff

        return diff(self.to_config(), old.to_config(), trim=trim, **kwargs)

    def visualize(self, **kwargs: Any) -> graphviz.Graph:
        """Return a drawing of the configuration."""
        from nemo_run.config.visualize import visualize

        return visualize(self.to_config(), **kwargs)

    def save_config_img(self, path_str: str) -> None:
        """Save the drawing of :meth:`visualize` as a PNG file."""
        from nemo_run.config.visualize import save_config_img

        save_config_img(self.to_config(), path_str)

    def _repr_svg_(self) -> str | None:
        from nemo_run.config.visualize import repr_svg

        return repr_svg(self.to_config())
