"""Configurations of packages that are not installed here, by lazy imports and lazy entry points."""

import json
from pathlib import Path

import nemo_run as run

with run.lazy_imports(fallback_to_lazy=True):
    import a_package_nobody_has.models as models

lazy = run.LazyEntrypoint("train --model wide")
seen = {
    "attributes": [hasattr(models, "Wide"), hasattr(models.Wide, "small")],
    "lazy": type(lazy).__name__,
}
try:
    with run.lazy_imports():
        import json as still_json

    seen["json"] = still_json.loads("[1]")
except ImportError:
    seen["json"] = "ImportError"
Path("result.json").write_text(json.dumps(seen, indent=1))
