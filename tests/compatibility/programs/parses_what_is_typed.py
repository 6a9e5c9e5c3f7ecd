"""A tool with a command line of its own that lets NeMo-Run parse the arguments of functions."""

import json
from pathlib import Path
from typing import Dict, List, Literal, Optional, Union

from nemo_run.cli.cli_parser import parse_cli_args, parse_value


def train(lr: float = 0.1, mode: Literal["fast", "slow"] = "fast", flags: Optional[Dict[str, int]] = None):
    pass


VALUES = [
    ("3", int),
    ("1e-3", float),
    ("true", bool),
    ("[1, 2]", List[int]),
    ("{'a': 1}", Dict[str, int]),
    ("None", Optional[int]),
    ("fast", Literal["fast", "slow"]),
    ("words here", str),
    ("5", Union[int, str]),
]
BAD = [("x", int), ("[1, x]", List[int]), ("maybe", bool), ("other", Literal["fast", "slow"])]


def refused(value, kind):
    try:
        return repr(parse_value(value, kind))
    except Exception as error:
        return f"refused: {isinstance(error, Exception)}"


if __name__ == "__main__":
    config = parse_cli_args(train, ["mode=slow", "lr=0.5", "lr/=2", "flags={'a': 3}"])
    seen = {
        "values": [repr(parse_value(value, kind)) for value, kind in VALUES],
        "bad": [refused(value, kind) for value, kind in BAD],
        "config": [type(config).__name__, config.mode, config.lr, config.flags],
    }
    Path("result.json").write_text(json.dumps(seen, indent=1))
