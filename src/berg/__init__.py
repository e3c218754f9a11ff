"""In silico fMRI: ask an encoding model what the brain's response to an image would be.

>>> from berg import BERG
>>> BERG().list_models()
['fmri-nsd_fsaverage-alexnet_untrained']
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from berg.downloads import download, verify
    from berg.errors import (
        BERGError,
        BERGWarning,
        DownloadError,
        InvalidParameterError,
        ModelLoadError,
        ModelNotFoundError,
        ResourceError,
        StimulusError,
    )
    from berg.interfaces import BaseModelInterface
    from berg.reports import write_report
    from berg.responses import Responses
    from berg.simulation import simulate_subject
    from berg.stores import encode_to_store, open_store
    from berg.toolkit import BERG

# Where each public name lives. Nothing is imported before it is used, so that `import berg`
# costs milliseconds and never loads torch.
_HOMES = {
    "BERG": "berg.toolkit",
    "BaseModelInterface": "berg.interfaces",
    "Responses": "berg.responses",
    "download": "berg.downloads",
    "encode_to_store": "berg.stores",
    "open_store": "berg.stores",
    "simulate_subject": "berg.simulation",
    "verify": "berg.downloads",
    "write_report": "berg.reports",
    "BERGError": "berg.errors",
    "BERGWarning": "berg.errors",
    "DownloadError": "berg.errors",
    "InvalidParameterError": "berg.errors",
    "ModelLoadError": "berg.errors",
    "ModelNotFoundError": "berg.errors",
    "ResourceError": "berg.errors",
    "StimulusError": "berg.errors",
}

__all__ = [
    "BERG",
    "BERGError",
    "BERGWarning",
    "BaseModelInterface",
    "DownloadError",
    "InvalidParameterError",
    "ModelLoadError",
    "ModelNotFoundError",
    "ResourceError",
    "Responses",
    "StimulusError",
    "__version__",
    "download",
    "encode_to_store",
    "open_store",
    "simulate_subject",
    "verify",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'berg' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
