"""Configurations as drawings."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import graphviz
import pytest

import nemo_run as run
from nemo_run.config.document import to_document
from nemo_run.config.visualize import repr_svg, save_config_img, visualize
from nemo_run.errors import ConfigError
from tests.config.stored import Colour, Model, Node, plain


def config() -> Any:
    shared = run.Config(Model, size=4711)
    return run.Partial(plain, a=[shared, run.Config(Node, a=shared)], b={"text": "<b>\n&", "colour": Colour.RED})


def labels(source: str) -> list[str]:
    return [line for line in source.splitlines() if "label=" in line]


def test_a_box_for_each_node_and_one_for_what_is_shared() -> None:
    graph = visualize(config())
    assert isinstance(graph, graphviz.Graph)
    assert graph.source.count("4711") == 1
    assert len(labels(graph.source)) == 4  # the partial, the list and the two nodes
    assert graph.source.count(" -- ") == 4  # one of them has two lines


def test_what_is_written_in_it_is_escaped() -> None:
    (label,) = labels(visualize(run.Config(plain, a="<i>\n&\x00")).source)
    assert "&#x27;&lt;i&gt;\\n&amp;\\x00&#x27;" in label


def test_a_document_is_drawn_like_what_it_is_of() -> None:
    nodes = run.Config(plain, a=[run.Config(Model, size=3)])
    assert visualize(to_document(nodes)).source == visualize(nodes).source


def test_depth_and_length_can_be_limited() -> None:
    source = visualize(config(), max_depth=1, max_str_length=12).source
    assert len(labels(source)) == 1
    assert "[Model(size…" in source


def test_the_methods_of_a_configuration() -> None:
    assert config().visualize(max_depth=1).source == visualize(config(), max_depth=1).source
    assert "Script" in run.Script(inline="true").visualize().source


# ---------------------------------------------------------------- with Graphviz
@pytest.mark.needs("dot")
def test_svg_for_a_notebook() -> None:
    root = ET.fromstring(config()._repr_svg_())
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "4711" in "".join(root.itertext())


@pytest.mark.needs("dot")
def test_a_large_configuration_is_cut_for_a_notebook() -> None:
    large = run.Config(plain, a=[run.Config(Node, a=[run.Config(Model, size=n) for n in range(20)]) for _ in range(20)])
    text = "".join(ET.fromstring(repr_svg(large)).itertext())
    assert text.count("Node") == 20
    assert len(labels(visualize(large).source)) > 400


@pytest.mark.needs("dot")
@pytest.mark.parametrize(("name", "start"), [("a.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("plain", b"\x89PNG")])
def test_a_file(tmp_path: Path, name: str, start: bytes) -> None:
    config().save_config_img(str(tmp_path / name))
    assert [file.name for file in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes().startswith(start)


@pytest.mark.needs("dot")
def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    for name in ("no_folder/a.png", "a.nonsense"):
        with pytest.raises(ConfigError, match=f"cannot save a drawing as '.*{name}'"):
            save_config_img(config(), str(tmp_path / name))


# ---------------------------------------------------------------- without
@pytest.fixture
def without_dot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))


@pytest.mark.usefixtures("without_dot")
def test_lines_instead_of_a_drawing_where_graphviz_is_not_there() -> None:
    root = ET.fromstring(config()._repr_svg_())
    lines = ["".join(element.itertext()) for element in root]
    assert lines[:6] == [
        "Partial[plain]",
        "    a: list",
        "        [0]: Model",
        "            size: 4711",
        "        [1]: Node",
        "            a: Model",
    ]
    assert any("apt install graphviz" in line for line in lines)


@pytest.mark.usefixtures("without_dot")
def test_saving_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"program `dot` of Graphviz, which is not on the PATH; install it"):
        save_config_img(config(), str(tmp_path / "a.png"))
    assert "Partial[plain]" in visualize(config()).source  # needs no program
