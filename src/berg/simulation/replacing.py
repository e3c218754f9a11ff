"""Two files of a simulated subject put in place together, and never over a real subject's.

Simulated weights are known by their SHA-256 in the provenance of the metadata beside them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from berg.downloads.manifest import forget
from berg.errors import (
    FileFormatError,
    InvalidParameterError,
    MetadataNotFoundError,
    ResourceError,
)
from berg.files import sha256_of
from berg.layout import ModelFiles
from berg.metadata import is_simulated, load_metadata


@contextmanager
def put_in_place_together(files: ModelFiles, subject: int) -> Iterator[ModelFiles]:
    """Give a folder of the same layout whose two files are put in place when the block ends well.

    Parameters
    ----------
    files : ModelFiles
    subject : int

    Yields
    ------
    ModelFiles
        Where to write weights and metadata. The folder lies beside the model's, so that a rename
        puts each file in place, and goes when the block ends.

    Raises
    ------
    InvalidParameterError
        Before the block or after, if files of the subject are there that are not known to be
        simulated.
    ResourceError
        If the files cannot be written.
    """
    try:
        for target in (files.weights_npy(subject), files.metadata(subject)):
            target.parent.mkdir(parents=True, exist_ok=True)
        _check_replaceable(files, subject)
        folder = TemporaryDirectory(prefix=".simulating-", dir=files.root)
    except OSError as err:
        raise _not_writable(files, err) from err
    with folder as name:
        staged = replace(files, berg_dir=Path(name))
        yield staged
        _check_replaceable(files, subject)  # a real subject may have come meanwhile
        for path in (files.weights_npy(subject), files.metadata(subject)):
            forget(files.root, path)  # what was downloaded there before
        try:
            os.replace(staged.weights_npy(subject), files.weights_npy(subject))
            os.replace(staged.metadata(subject), files.metadata(subject))
            files.weights_safetensors(subject).unlink(missing_ok=True)  # of the weights before
        except OSError as err:
            raise _not_writable(files, err) from err


def _not_writable(files: ModelFiles, err: OSError) -> ResourceError:
    return ResourceError(
        "the simulated subject cannot be written",
        got=str(err),
        accepted=f"a folder that can be written to at {files.root}",
        do="make space, or choose another berg_dir",
    )


def _check_replaceable(files: ModelFiles, subject: int) -> None:
    """Raise unless whatever is there of the subject is known to be simulated."""
    npy, converted = files.weights_npy(subject), files.weights_safetensors(subject)
    try:
        metadata = load_metadata(files.metadata(subject))
    except MetadataNotFoundError:
        known = None
    else:
        if not is_simulated(metadata):
            raise _not_simulated(files.metadata(subject), subject)
        known = metadata["provenance"].get("weights_sha256")
    if npy.exists() and sha256_of(npy) != known:
        raise _not_simulated(npy, subject)
    if converted.exists() and _source_sha256(converted) != known:
        raise _not_simulated(converted, subject)


def _not_simulated(path: Path, subject: int) -> InvalidParameterError:
    return InvalidParameterError(
        f"subject {subject} is there already, and it is not known to be a simulated one",
        got=str(path),
        accepted="no files of this subject, or those of a whole simulated one",
        do="choose another berg_dir or another subject",
    )


def _source_sha256(path: Path) -> str | None:
    """SHA-256 of the weights that a `.safetensors` was made from; None if it does not say."""
    from berg.converted import read_info  # loads torch

    try:
        return read_info(path)["source_sha256"]
    except FileFormatError:
        return None
