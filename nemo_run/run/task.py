"""Looking at a task before it is run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nemo_run.config import Partial, Script
    from nemo_run.core.execution.base import Executor


def dryrun_fn(configured_fn: Partial[Any], executor: Executor | None = None, build: bool = False) -> None:
    """Print what a task would be called with, and where.

    Args:
        configured_fn: A Partial or a Config.
        executor: Where it would run; printed too.
        build: Also build the arguments, to see that it can be done. Nothing is called.

    Raises:
        InvalidJobError: It is no configuration.

    Example:
        >>> import nemo_run as run
        >>> dryrun_fn(run.Partial(dict, size=1))
        # dry run of builtins.dict
        {
         "_target_": "builtins.dict",
         "_partial_": true,
         "size": 1
        }
    """
    import json

    import fiddle as fdl

    from nemo_run.config.document import to_document
    from nemo_run.config.names import get_type_namespace
    from nemo_run.errors import InvalidJobError

    if not isinstance(configured_fn, fdl.Buildable):
        raise InvalidJobError(f"a dry run needs a run.Partial or a run.Config, not {configured_fn!r}")
    print(f"# dry run of {get_type_namespace(configured_fn)}")
    print(json.dumps(to_document(configured_fn), indent=1, ensure_ascii=False))
    if executor is not None:
        print(f"# on {executor.info()}: {executor.engine}")
    if build:
        fdl.build(configured_fn)


def direct_run_fn(task: Partial[Any] | Script, dryrun: bool = False) -> None:
    """Run a task in this process.

    Args:
        task: A Partial or a Script.
        dryrun: Only show what would be called.

    Raises:
        JobFailedError: A script did not succeed.

    Example:
        >>> import nemo_run as run
        >>> from pprint import pprint
        >>> direct_run_fn(run.Partial(pprint, "hello"))
        'hello'
    """
    from nemo_run.run.api import run

    if dryrun:
        dryrun_fn(task, build=True)  # type: ignore[arg-type]  # it says what is wrong with a script
    else:
        run(task, direct=True)
