"""The version in the parts that existing code asks for."""

from __future__ import annotations

import re

from nemo_run import __version__

MAJOR, MINOR, PATCH = (int(number) for number in re.findall(r"\d+", __version__)[:3])
PRE_RELEASE = re.sub(r"^\d+\.\d+\.\d+", "", __version__)
VERSION = (MAJOR, MINOR, PATCH, PRE_RELEASE)

__shortversion__ = f"{MAJOR}.{MINOR}.{PATCH}"
__package_name__ = "nemo_run"
__license__ = "Apache-2.0"
