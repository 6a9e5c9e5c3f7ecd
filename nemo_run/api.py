"""Names that existing code imports from here."""

from __future__ import annotations

from nemo_run.config.autoconfig import autoconvert, default_autoconfig_buildable

__all__ = ["autoconvert", "default_autoconfig_buildable"]
