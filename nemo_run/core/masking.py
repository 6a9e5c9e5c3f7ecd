"""Values that must not be shown: what engines and experiments use of :mod:`nemo_run.config.masking`."""

from nemo_run.config.masking import MASK, holds_secret, is_secret, masked, masked_arguments

__all__ = ["MASK", "holds_secret", "is_secret", "masked", "masked_arguments"]
