"""Configurations: what is to be run, as data.

Names are imported when they are first used, so that ``from nemo_run.config import get_nemorun_home`` stays light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nemo_run.config.quick_fiddle import lighten_fiddle
from nemo_run.lazy_names import lazy_names

if TYPE_CHECKING:
    from nemo_run.config.autoconfig import (
        autoconvert as autoconvert,
        default_autoconfig_buildable as default_autoconfig_buildable,
    )
    from nemo_run.config.buildable import (
        Config as Config,
        OptionalDefaultConfig as OptionalDefaultConfig,
        OptionalDefaultPartial as OptionalDefaultPartial,
        Partial as Partial,
    )
    from nemo_run.config.building import build as build
    from nemo_run.config.convert import from_dict as from_dict
    from nemo_run.config.home import (
        RUNDIR_NAME as RUNDIR_NAME,
        RUNDIR_SPECIAL_NAME as RUNDIR_SPECIAL_NAME,
        SCRIPTS_DIR as SCRIPTS_DIR,
        USE_WITH_RAY_CLUSTER_KEY as USE_WITH_RAY_CLUSTER_KEY,
        get_check as get_check,
        get_nemorun_home as get_nemorun_home,
        set_check as set_check,
        set_nemorun_home as set_nemorun_home,
    )
    from nemo_run.config.mixin import ConfigurableMixin as ConfigurableMixin
    from nemo_run.config.names import (
        get_type_namespace as get_type_namespace,
        get_underlying_types as get_underlying_types,
    )
    from nemo_run.config.paths import get_value as get_value, set_value as set_value
    from nemo_run.config.script import Script as Script
    from nemo_run.config.strictness import validation as validation

_MODULE_OF = {
    "Config": "buildable",
    "ConfigurableMixin": "mixin",
    "OptionalDefaultConfig": "buildable",
    "OptionalDefaultPartial": "buildable",
    "Partial": "buildable",
    "RUNDIR_NAME": "home",
    "RUNDIR_SPECIAL_NAME": "home",
    "SCRIPTS_DIR": "home",
    "Script": "script",
    "USE_WITH_RAY_CLUSTER_KEY": "home",
    "autoconvert": "autoconfig",
    "build": "building",
    "default_autoconfig_buildable": "autoconfig",
    "from_dict": "convert",
    "get_check": "home",
    "get_nemorun_home": "home",
    "get_type_namespace": "names",
    "get_underlying_types": "names",
    "get_value": "paths",
    "set_check": "home",
    "set_nemorun_home": "home",
    "set_value": "paths",
    "validation": "strictness",
}


lighten_fiddle()  # before anything here imports fiddle

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(__name__, _MODULE_OF)
