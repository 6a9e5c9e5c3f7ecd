"""Images that are built before the launch: their names, the build, and a registry."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import docker as sdk
import pytest

import nemo_run as run
from nemo_run.errors import ExecutorError
from tests.services import registry
from tests.services.docker import IMAGE, shared_libraries
from tests.support import states

_DOCKERFILE = f"""\
FROM {IMAGE} AS first
ARG WORD=none
COPY data /data
RUN echo "$WORD" > /word
"""


@pytest.fixture
def recipe(work: Path) -> run.Image:
    """An image of this test: its content is no other test's."""
    folder = work / "Recipe"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "file").write_text(str(work))
    (folder / "Dockerfile").write_text(_DOCKERFILE)
    return run.Image(dockerfile=str(folder / "Dockerfile"), network="none")


@pytest.fixture
def images(client: sdk.DockerClient) -> Iterator[Callable[[], list[str]]]:
    """Names of the images that were built; they are removed."""

    def built() -> list[str]:
        found = client.images.list(filters={"label": "nemo-run.image"})
        return sorted(tag for image in found for tag in image.tags)

    yield built
    for name in built():
        client.images.remove(name, force=True)


def _launch(executor: run.Executor, text: str = "cat /data/file; echo; cat /word") -> run.Experiment:
    with run.Experiment("built", executor=executor) as exp:
        exp.add(run.Script(inline=text), name="t")
        exp.run()
    return exp


def _executor(image: run.Image, **options: object) -> run.DockerExecutor:
    return run.DockerExecutor(container_image=image, packager=run.Packager(), **options)  # type: ignore[arg-type]


def _log(exp: run.Experiment) -> str:
    return (exp.directory / "t" / "attempts" / "1" / "log").read_text()


# names


@pytest.mark.parametrize(
    "change",
    [
        lambda image: replace(image, build_args={"WORD": "b"}),
        lambda image: replace(image, target="first"),
        lambda image: image.folder.joinpath("Dockerfile").write_text(_DOCKERFILE + "RUN true\n"),
        lambda image: image.folder.joinpath("data", "file").write_text("other"),
        lambda image: image.folder.joinpath("data", "file").chmod(0o755),
        lambda image: image.folder.joinpath("data", "more").touch(),
        lambda image: image.folder.joinpath("data", "link").symlink_to("file"),
    ],
    ids=["an argument", "the target", "the Dockerfile", "a file", "a mode", "another file", "a link"],
)
def test_another_content_has_another_name(recipe: run.Image, change: Callable[[run.Image], object]) -> None:
    before = recipe.name
    assert replace(recipe).name == before
    changed = change(recipe)
    assert (changed if isinstance(changed, run.Image) else recipe).name != before


def test_what_is_ignored_does_not_change_the_name(recipe: run.Image) -> None:
    (recipe.folder / ".dockerignore").write_text("# comment\n*.log\n\n")
    before = recipe.name
    (recipe.folder / "x.log").write_text("noise")
    assert recipe.name == before
    assert before.startswith("nemo-run/recipe:")


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (run.Image(), "dockerfile= or uv_lock="),
        (run.Image(dockerfile="a", uv_lock="b"), "one of them"),
        (run.Image(dockerfile="nothing"), "there is no file 'nothing'"),
        (run.Image(uv_lock="uv.lock"), r"there is no file 'uv.lock'"),
        (run.Image(dockerfile="Dockerfile", context="nowhere"), "is no folder"),
        (run.Image(dockerfile="Dockerfile", push_to="host/name:tag"), "the tag is made from the content"),
        (run.Image(dockerfile="Dockerfile", push_to="-x"), "is not a repository"),
    ],
)
def test_what_cannot_be_built_is_refused_before_anything_starts(image: run.Image, words: str, work: Path) -> None:
    Path("Dockerfile").write_text("FROM scratch\n")
    with pytest.raises(ExecutorError, match=words):
        _executor(image).check()


@pytest.mark.parametrize(
    "executor",
    [
        lambda image: run.KubernetesExecutor(image=image),
        lambda image: run.SkypilotExecutor(container_image=image),
        lambda image: run.LeptonExecutor(container_image=image, nemo_run_dir="/mnt"),
        lambda image: _executor(image, pull="always"),
    ],
    ids=["kubernetes", "skypilot", "lepton", "always pulled"],
)
def test_what_is_pulled_has_to_be_pushed(recipe: run.Image, executor: Callable[[run.Image], run.Executor]) -> None:
    with pytest.raises(ExecutorError, match="push_to="):
        executor(recipe).check()


def test_a_dry_run_shows_the_name_and_builds_nothing(
    recipe: run.Image, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    pushed = replace(recipe, push_to="registry.example/team/train")
    executors = [_executor(recipe), run.KubernetesExecutor(image=pushed, packager=run.Packager())]
    with run.Experiment("built") as exp:
        for executor in executors:
            exp.add(run.Script(inline="true"), executor=executor, name="t")
        exp.dryrun()
    shown = capsys.readouterr().out
    assert recipe.name in shown
    assert pushed.name in shown


# the engine


@pytest.mark.needs("docker")
def test_an_image_is_built_once_and_the_task_runs_in_it(
    recipe: run.Image, images: Callable[[], list[str]], work: Path, client: sdk.DockerClient
) -> None:
    recipe = replace(recipe, build_args={"WORD": "said"})
    exp = _launch(_executor(recipe))
    assert states(exp) == {"t": "SUCCEEDED"}
    assert _log(exp) == f"{work}\nsaid\n"
    assert images() == [recipe.name]
    first = client.images.get(recipe.name).id
    _launch(_executor(recipe))
    assert client.images.get(recipe.name).id == first
    (recipe.folder / "data" / "file").write_text("new")
    exp = _launch(_executor(recipe))
    assert _log(exp) == "new\nsaid\n"
    assert len(images()) == 2


@pytest.mark.needs("docker")
def test_a_build_that_fails_is_shown_and_nothing_is_launched(recipe: run.Image, work: Path) -> None:
    (recipe.folder / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo before; exit 7\n")
    with pytest.raises(ExecutorError, match=r"(?s)could not be built: .*exit.* 7.*before"):
        _launch(_executor(recipe))
    assert not list((work / "home" / "experiments").glob("built/*"))


@pytest.mark.needs("docker", "uv")
def test_an_image_has_what_a_lock_says(images: Callable[[], list[str]], work: Path, client: sdk.DockerClient) -> None:
    import uv

    project, base = work / "project", work / "base"
    project.mkdir()
    base.mkdir()
    shutil.copy(uv.find_uv_bin(), base / "uv")
    copies = "COPY uv /usr/local/bin/uv\n"
    for number, library in enumerate(sorted(shared_libraries([uv.find_uv_bin()]))):
        shutil.copy(library, base / f"{number}")
        copies += f"COPY {number} {library}\n"
    (base / "Dockerfile").write_text(f"FROM {IMAGE}\n{copies}")
    client.images.build(path=str(base), tag="nemo-run/base:test", labels={"nemo-run.image": ""})
    (project / "pyproject.toml").write_text('[project]\nname="p"\nversion="1"\nrequires-python=">=3.10"\n')
    (project / "uv.lock").write_text(
        'version = 1\nrequires-python = ">=3.10"\n\n'
        '[[package]]\nname = "p"\nversion = "1"\nsource = { virtual = "." }\n'
    )
    image = run.Image(uv_lock=str(project / "uv.lock"), base="nemo-run/base:test", network="none")
    with run.Experiment("locked", executor=_executor(image)) as exp:
        exp.add(run.Script(inline="import sys; print(sys.prefix)", entrypoint="python3"), name="t")
        exp.run()
    assert _log(exp) == "/opt/nemo_run_env/.venv\n"


# the registry


@pytest.mark.needs("docker", "docker registry")
def test_an_image_is_pushed_once_and_pulled_from_there(
    recipe: run.Image, images: Callable[[], list[str]], work: Path, tmp_path: Path, client: sdk.DockerClient
) -> None:
    with registry.registry(tmp_path / "registry") as address:
        recipe = replace(recipe, push_to=f"{address}/team/train")
        exp = _launch(_executor(recipe))
        assert states(exp) == {"t": "SUCCEEDED"}
        client.images.remove(recipe.name)
        exp = _launch(_executor(recipe))
        assert states(exp) == {"t": "SUCCEEDED"}
        assert client.images.get(recipe.name).attrs["RepoDigests"]  # one that is built has none


@pytest.mark.needs("docker", "docker registry")
def test_a_registry_that_refuses_is_an_error_before_anything_starts(
    recipe: run.Image, images: Callable[[], list[str]], work: Path, tmp_path: Path
) -> None:
    with registry.registry(tmp_path / "registry", with_password=True) as address:
        recipe = replace(recipe, push_to=f"{address}/team/train")
        with pytest.raises(ExecutorError, match=r"could not be pushed: .*docker login"):
            _launch(_executor(recipe))
    with pytest.raises(ExecutorError, match="could not be pushed"):  # nobody is there any more
        _launch(_executor(recipe))
