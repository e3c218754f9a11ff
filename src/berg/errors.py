"""Errors and warnings: each is a `BERGError` and also the built-in kind it is.

The class names are those of the existing BERG toolkit, so that ``except`` clauses in
users' scripts keep working. A message has one form throughout::

    what is wrong
      got:      what was found
      accepted: what would have been right
      do:       the next step
"""

from __future__ import annotations

import pickle
import sys
import warnings
from collections.abc import Iterable
from difflib import SequenceMatcher
from types import FrameType


class BERGError(Exception):
    """Base of every error that berg raises on purpose.

    Parameters
    ----------
    problem : str
        What is wrong, in one line.
    got, accepted, do : str, optional
        What was found, what is accepted, and the next step. Left out when not given.
    """

    def __init__(
        self,
        problem: str,
        *,
        got: str | None = None,
        accepted: str | None = None,
        do: str | None = None,
    ) -> None:
        lines = [problem]
        for label, text in (("got:", got), ("accepted:", accepted), ("do:", do)):
            if text is not None:
                lines.append(f"  {label:<9} {text}")
        super().__init__("\n".join(lines))

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if issubclass(cls, OSError):
            # By name one finds ValueError's, which cannot make an OSError; what unpickles errors
            # for Dask goes by the name.
            cls.__new__ = OSError.__new__  # type: ignore[method-assign]


class ModelNotFoundError(BERGError, ValueError):
    """The model id is not in the catalog."""


class InvalidParameterError(BERGError, ValueError):
    """A parameter has a value that is not accepted."""


class InvalidParameterTypeError(InvalidParameterError, TypeError):
    """A parameter has a type that is not accepted."""


class InvalidIndexError(InvalidParameterError, IndexError):
    """An index is out of bounds, or of a kind that is not accepted."""


class StimulusError(BERGError, ValueError):
    """The stimulus is not a batch of RGB images."""


class StimulusTypeError(StimulusError, TypeError):
    """The stimulus has a type or dtype that is not accepted."""


class ImageFileError(StimulusError, OSError):
    """An image file is missing or cannot be read."""


class ModelLoadError(BERGError, RuntimeError):
    """A model's files are there but cannot be used."""


class WeightsNotFoundError(ModelLoadError, FileNotFoundError):
    """A model's weights, or the directory that should hold them, do not exist."""


class MetadataNotFoundError(InvalidParameterError, FileNotFoundError):
    """A model's metadata file does not exist."""


class NSDFilesNotFoundError(BERGError, FileNotFoundError):
    """Files of the Natural Scenes Dataset are missing; the message names each of them."""


class StoreNotFoundError(BERGError, FileNotFoundError):
    """There is no store under this path."""


class DownloadError(BERGError, OSError):
    """What should be fetched cannot be: no network, no access, or a server that fails."""


class OfflineError(DownloadError, ConnectionError):
    """The network is needed, and the environment variable ``BERG_OFFLINE`` forbids it."""


class RemoteFileNotFoundError(DownloadError, FileNotFoundError):
    """The bucket has no such object."""


class ChecksumError(DownloadError, ValueError):
    """What arrived is not what the bucket holds. Nothing of it was kept."""


class FilesDifferError(BERGError, FileExistsError):
    """Files that are there are not those of the bucket, and are not replaced unasked."""


class ReportSourceNotFoundError(InvalidParameterError, FileNotFoundError):
    """There is neither a file, a store nor a model under this name to report on."""


class FileFormatError(ModelLoadError, ValueError):
    """A file is truncated, or its content is not what its name promises."""


class UnsafePickleError(FileFormatError, pickle.UnpicklingError):
    """A pickle names something that data never needs. Nothing of it was run."""


class ResourceError(BERGError, RuntimeError):
    """Something that the machine should have is missing: a device, memory, disk."""


class MissingExtraError(BERGError, ImportError):
    """An optional dependency is not installed."""


class BERGWarning(UserWarning):
    """Category of every warning that berg issues."""


def warn(message: str) -> None:
    """Issue a `BERGWarning` that points at the caller's own line, outside of the package."""
    level = 1
    frame: FrameType | None = sys._getframe()
    while frame and frame.f_globals.get("__name__", "").partition(".")[0] == __package__:
        frame = frame.f_back
        level += 1
    warnings.warn(message, BERGWarning, stacklevel=level)


def did_you_mean(name: object, options: Iterable[str]) -> str:
    """Return ``" Did you mean …?"`` for a near miss, or an empty string.

    Options that are equally near are all named.

    Examples
    --------
    >>> did_you_mean("v1V", ["V1v", "V1d"])
    " Did you mean 'V1v'?"
    >>> did_you_mean("V1", ["V1v", "V1d"])
    " Did you mean 'V1v' or 'V1d'?"
    >>> did_you_mean("zebra", ["V1v", "V1d"])
    ''
    """
    wanted = str(name).lower()
    nearness = {option: SequenceMatcher(None, option.lower(), wanted).ratio() for option in options}
    nearest = max(nearness.values(), default=0)
    if nearest < 0.6:  # difflib's own limit for a close match
        return ""
    names = " or ".join(repr(option) for option, near in nearness.items() if near == nearest)
    return f" Did you mean {names}?"
