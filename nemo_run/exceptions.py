"""Names of errors that existing code imports from here; all errors are in :mod:`nemo_run.errors`."""

from __future__ import annotations

from nemo_run.errors import ConfigPathError, EngineUnreachableError

SetValueError = ConfigPathError
UnknownStatusError = EngineUnreachableError
PersistentSacctFailure = EngineUnreachableError

__all__ = ["PersistentSacctFailure", "SetValueError", "UnknownStatusError"]
