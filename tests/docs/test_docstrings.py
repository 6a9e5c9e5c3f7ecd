"""The examples in docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import nemo_run

MODULES = ["nemo_run", *(module.name for module in pkgutil.walk_packages(nemo_run.__path__, "nemo_run."))]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    for lazy in dir(module):
        getattr(module, lazy, None)
    assert doctest.testmod(module).failed == 0
