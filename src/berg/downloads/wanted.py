"""Which objects of the bucket belong to a subject, and where they go."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from berg.downloads.bucket import Bucket, TransientError
from berg.errors import DownloadError
from berg.layout import ModelFiles

logger = logging.getLogger(__name__)

Kind = Literal["weights", "metadata", "plot"]
KINDS: tuple[Kind, ...] = ("weights", "metadata", "plot")
_NAME = re.compile(r"(?!\.)[^/\\\x00-\x1f\x7f-\x9f]+")  # no control characters: names are shown
_NAMED_SUBJECT = re.compile(r"(?<![a-z])(?:subject|subj|sub)[-_]?0*(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Wanted:
    """An object that is asked for.

    Parameters
    ----------
    path : Path
        Where it goes. Inside the berg_dir that is its key.
    kind : {"weights", "metadata", "plot"}
    subject : int or None
        Whose it is; None for a plot.
    """

    path: Path
    kind: Kind
    subject: int | None


def want(
    bucket: Bucket, files: ModelFiles, subjects: Sequence[int], kinds: Collection[Kind]
) -> list[Wanted]:
    """List what belongs to subjects; the bucket is asked for the plots' names.

    Parameters
    ----------
    bucket : Bucket
    files : ModelFiles
    subjects : sequence of int
    kinds : collection of {"weights", "metadata", "plot"}

    Returns
    -------
    list of Wanted

    Raises
    ------
    TransientError
        If the bucket does not answer. Where it forbids listings, plots are left out with a
        logged warning.
    """
    wanted: list[Wanted] = []
    for subject in subjects:
        if "weights" in kinds:
            wanted.append(Wanted(files.weights_npy(subject), "weights", subject))
        if "metadata" in kinds:
            wanted.append(Wanted(files.metadata(subject), "metadata", subject))
    if "plot" in kinds:
        prefix = key_of(files, files.accuracy_plots) + "/"
        try:
            keys = bucket.list_keys(prefix)
        except TransientError:
            raise
        except DownloadError as err:
            # A mirror may forbid listings; the model is whole without its pictures.
            logger.warning("pictures of accuracy are left out, they cannot be listed: %s", err)
            keys = []
        wanted += [
            Wanted(files.berg_dir / key, "plot", None) for key in _plots(keys, prefix, subjects)
        ]
    return wanted


def key_of(files: ModelFiles, path: Path) -> str:
    """Return the key of a file: its path inside the berg_dir."""
    return path.relative_to(files.berg_dir).as_posix()


def _plots(keys: Iterable[str], prefix: str, subjects: Sequence[int]) -> list[str]:
    r"""Keep the keys of files that name one of the subjects, or none.

    Examples
    --------
    >>> _plots(["p/a.png", "p/a_subject-01.png", "p/a_subject-02.png", "p/"], "p/", [2])
    ['p/a.png', 'p/a_subject-02.png']
    >>> _plots(["/etc/a.png", "p/../a.png", "p/.a.png", "p//a.png", "p/\x1b[2Ka"], "p/", [1])
    []
    """
    kept = []
    for key in keys:
        name = key.removeprefix(prefix)
        # Neither a folder's own entry, nor a name that would lead out of the folder or hide in it.
        if not key.startswith(prefix) or not all(_NAME.fullmatch(part) for part in name.split("/")):
            continue
        named = {int(number) for number in _NAMED_SUBJECT.findall(name)}
        if not named or named.intersection(subjects):
            kept.append(key)
    return kept
