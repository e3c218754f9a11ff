"""Finished files put into a berg_dir: every one whole, and never over another model's unasked."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from berg.atomic import replace_atomically
from berg.downloads.manifest import forget
from berg.errors import InvalidParameterError
from berg.training.workspace import HEMIS, Workspace

PREDICTED = ("test", "nsdsynthetic")  # images that responses are predicted to
_PLACES = "bytes.json"


def check_vacant(targets: Mapping[Path, Path], others: Sequence[Path] = ()) -> None:
    """Refuse to take the place of files that are there.

    Parameters
    ----------
    targets : mapping of Path to Path
        What is going to be written, to the finished file that it is made from. Where both are
        there and equal, it was put in place before an interruption.
    others : sequence of Path
        What must not be there either.

    Raises
    ------
    InvalidParameterError
        If one of them exists.
    """
    present = [path for path, finished in targets.items() if not _vacant_or_same(path, finished)]
    present += [path for path in others if path.exists()]
    if present:
        raise InvalidParameterError(
            "there is a model of this subject already: downloaded, or trained with other data, "
            "options or versions",
            got="".join(f"\n            {path}" for path in present).lstrip(),
            accepted="a berg_dir without these files",
            do="choose another --berg-dir, or replace the model with --overwrite",
        )


def _vacant_or_same(path: Path, finished: Path) -> bool:
    if not path.exists():
        return True
    return finished.exists() and (
        path.samefile(finished) or filecmp.cmp(path, finished, shallow=False)
    )


def put_in_place(files: Mapping[Path, Path]) -> None:
    """Give finished files their final names, in order.

    Parameters
    ----------
    files : mapping of Path to Path
        Finished file to final name. The finished ones stay, so that an interrupted call can be
        made again: they are linked where the file system can, and copied where it cannot.

    Raises
    ------
    ResourceError
        If a file cannot be written.
    """
    for finished, target in files.items():
        with replace_atomically(target) as temporary:
            try:
                os.link(finished, temporary)
            except OSError:  # exFAT and some network disks have no hard links
                shutil.copyfile(finished, temporary)


def model_files(work: Workspace) -> list[Path]:
    """Return the files of the finished model, in the order in which they appear: metadata last.

    Parameters
    ----------
    work : Workspace

    Returns
    -------
    list of Path
    """
    files, subject = work.files, work.subject
    predictions = [files.predictions(subject, h, images) for h in HEMIS for images in PREDICTED]
    return [files.weights_npy(subject), *predictions, files.metadata(subject)]


def staged_files(work: Workspace, folder: Path) -> dict[Path, Path]:
    """Return, for each file of the model, where it is written first."""
    return {target: folder / target.name for target in model_files(work)}


def publish(work: Workspace) -> None:
    """Put the finished model's files into their places."""
    work.published.remove()  # of an older model, which is being replaced from here on
    for path in (work.files.weights_npy(work.subject), work.files.metadata(work.subject)):
        forget(work.files.root, path)  # if it was downloaded: it would count as damaged
    # What was converted from weights that are now replaced.
    work.files.weights_safetensors(work.subject).unlink(missing_ok=True)
    put_in_place({staged: final for final, staged in staged_files(work, work.model.folder).items()})
    with work.published.make() as folder:
        sizes = {path.name: path.stat().st_size for path in model_files(work)[:-1]}
        (folder / _PLACES).write_text(json.dumps(sizes))


def is_published(work: Workspace) -> bool:
    """Whether this very model was put in place, and is there still.

    Metadata need only be there: `berg test` adds to them.
    """
    if not work.published.is_finished:
        return False
    sizes = json.loads((work.published / _PLACES).read_text())
    *others, metadata = model_files(work)
    return metadata.is_file() and all(
        path.is_file() and path.stat().st_size == sizes.get(path.name) for path in others
    )
