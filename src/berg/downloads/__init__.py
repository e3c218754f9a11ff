"""Files of the public bucket, in a berg_dir. Their network is `bucket.py`'s.

What is on disk can be asked for without the S3 client: it is imported where it is used.
"""

from typing import TYPE_CHECKING, Any

from berg.downloads.manifest import Record, load_manifest
from berg.downloads.parts import InterruptedDownload, find_interrupted
from berg.downloads.verifying import VerifiedFile, verify

if TYPE_CHECKING:
    from berg.downloads.downloading import carry_out, download, fetch_absent
    from berg.downloads.plan import DownloadPlan, plan_download

_HOMES = {
    "DownloadPlan": "plan",
    "carry_out": "downloading",
    "download": "downloading",
    "fetch_absent": "downloading",
    "plan_download": "plan",
}

__all__ = [
    "DownloadPlan",
    "InterruptedDownload",
    "Record",
    "VerifiedFile",
    "carry_out",
    "download",
    "fetch_absent",
    "find_interrupted",
    "load_manifest",
    "plan_download",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'berg.downloads' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"berg.downloads.{_HOMES[name]}"), name)
