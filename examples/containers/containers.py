"""Runs scripts in containers: with a volume, and as a group on a network of its own."""

from __future__ import annotations

import sys
from pathlib import Path

import nemo_run as run

COUNT = 'n=0; while read -r line; do n=$((n + 1)); done < /data/lines.txt; echo "read from the volume: $n lines"'
SAY = 'echo "I am $NEMO_RUN_GROUP_RANK of $NEMO_RUN_GROUP_HOSTS"'


def main(image: str) -> None:
    """Run them all in this image."""
    here = Path(__file__).resolve().parent
    container = run.DockerExecutor(container_image=image, packager=run.Packager(), volumes=[f"{here}:/data:ro"])
    with run.Experiment("containers", executor=container, skip_status_at_exit=True) as exp:
        exp.add(run.Script(inline=COUNT), name="count")
        exp.add([run.Script(inline=SAY), run.Script(inline=SAY)], name="pair", dependencies=["count"])
        exp.run(check=True)
    exp.logs("count")
    exp.logs("pair")


if __name__ == "__main__":
    main(sys.argv[1])
