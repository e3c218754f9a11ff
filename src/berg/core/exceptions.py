"""Import path of the existing toolkit: ``from berg.core.exceptions import BERGError``."""

from berg.errors import (
    BERGError,
    InvalidParameterError,
    ModelLoadError,
    ModelNotFoundError,
    ResourceError,
    StimulusError,
)

__all__ = [
    "BERGError",
    "InvalidParameterError",
    "ModelLoadError",
    "ModelNotFoundError",
    "ResourceError",
    "StimulusError",
]
