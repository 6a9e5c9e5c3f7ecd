"""A pipeline whose tasks hand on what they return, and a group of two tasks that run at the same time."""

from __future__ import annotations

import nemo_run as run

SERVER = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text('pong')"
CLIENT = """
import pathlib, sys, time
answer = pathlib.Path(sys.argv[1])
while not answer.exists() or not answer.read_text():
    time.sleep(0.05)
print("the client got:", answer.read_text())
"""


def split(text: str) -> dict[str, list[str]]:
    """Return the words of a text."""
    return {"words": text.split()}


def count(words: list[str], longer_than: int) -> int:
    """Return how many words are long enough."""
    return sum(len(word) > longer_than for word in words)


def choose(counts: dict[str, int]) -> str:
    """Return the model that found most."""
    best = max(counts, key=lambda name: counts[name])
    return f"{best}, {counts[best]} found"


def main() -> None:
    """Launch both, and show what came out."""
    with run.Experiment("pipeline", executor=run.LocalExecutor(), skip_status_at_exit=True) as exp:
        exp.add(split, text="experiments are sets of tasks that depend upon another", name="split")
        for name, size in (("long words", 6), ("very long words", 9)):
            task = run.Partial(count, words=exp.output("split", "words"), longer_than=size)
            exp.add(task, name=name.replace(" ", "-"))
        counts = {"long words": exp.output("long-words"), "very long words": exp.output("very-long-words")}
        exp.add(run.Partial(choose, counts=counts), name="choose")

        answer = str(exp.directory / "answer")
        pair = [run.Script(inline=code, args=[answer], entrypoint="python") for code in (SERVER, CLIENT)]
        exp.add(pair, name="pair", dependencies=["choose"])
        exp.run(check=True)
    print("chosen:", exp.result("choose"), flush=True)
    exp.logs("pair")


if __name__ == "__main__":
    main()
