r"""A configuration as a plain document, and back.

A document is made of ``dict`` (with string keys), ``list``, ``str``, ``int``, ``float``, ``bool`` and ``None`` only, so
any text format can hold it. It follows the conventions of Hydra's ``instantiate``, which builds the same thing from it:

* ``{"_target_": "package.Class", "width": 4}`` is ``Config(Class, width=4)``; with ``"_partial_": true`` it is a
  ``Partial``; positional arguments are a list under ``"_args_"``.
* A value that JSON has no word for is a call of the class that builds it: ``{"_target_": "pathlib.Path", "_args_":
  ["/data"]}``; :mod:`nemo_run.config.document.values` has the table. A configuration *of* such a class says
  ``"_partial_": false``.
* A class, function or enum member is looked up: ``{"_target_": "hydra.utils.get_class", "path": "package.Class"}``.
  Hydra is not needed to load it.
* ``"_convert_": "object"`` marks what exists already: an instance of a dataclass or named tuple, a combined flag, a
  ``functools.partial``.
* ``{"_target_": "nemo_run.config.document.as_given", "_args_": [value]}`` stands for an argument's value that does not
  fit its type hint, and was accepted all the same.
* A node that is used twice is written once; the other places say ``"${path.to.it}"``. (Hydra builds such a
  node once for each place.) A text that has ``${`` itself is the call of ``str.join`` that makes it.

Loading calls nothing but the constructors of that table: what a ``_target_`` refers to is imported, never run. A
document itself can be looked at, compared and shown without importing anything.
"""

from __future__ import annotations

from typing import Any

from nemo_run.config.document.layout import path_text
from nemo_run.config.document.reading import from_document
from nemo_run.config.document.writing import check_storable, to_document

__all__ = ["as_given", "buildable", "check_storable", "from_document", "path_text", "to_document"]


def buildable(value: Any, /, **about: Any) -> Any:  # noqa: ARG001  # what it is is for from_document
    """Return what stands around a configuration that has tags, or that is neither a Config nor a Partial.

    Only Hydra calls it, and gets what it has built from the configuration.
    """
    return value


def as_given(value: Any, /) -> Any:
    """Return what stands around an argument's value that is not checked when it is loaded.

    Only Hydra calls it, and gets the value.
    """
    return value
