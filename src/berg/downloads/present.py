"""What lies where a file would go: nothing, the bucket's file, or another that must be kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from berg.downloads.checksums import FileHashes, RemoteFile, hash_file
from berg.downloads.manifest import Record
from berg.downloads.wanted import Wanted
from berg.errors import FileFormatError
from berg.files import size_of
from berg.layout import ModelFiles
from berg.metadata import simulated_n_vertices


@dataclass(frozen=True)
class Present:
    """A file that is there.

    Parameters
    ----------
    hashes : FileHashes or None
        None if only the form that was converted from it is there.
    difference : str or None
        In what it differs from the bucket's; None if in nothing.
    """

    hashes: FileHashes | None
    difference: str | None


def examine(
    wanted: Wanted,
    remote: RemoteFile,
    known: Record | None,
    files: ModelFiles,
    count: Callable[[int], object],
) -> Present | None:
    """Compare what is there with the bucket's; that it exists says nothing.

    Parameters
    ----------
    wanted : Wanted
    remote : RemoteFile
    known : Record or None
        What the manifest has of it.
    files : ModelFiles
    count : callable
        Called with numbers of bytes while they are read.

    Returns
    -------
    Present or None
        None if nothing is in the way.

    Raises
    ------
    ResourceError
        If it cannot be read.
    """
    if size_of(wanted.path) is None:
        difference = _conversion_difference(wanted, remote, known, files)
        return None if difference is None else Present(None, difference)
    hashes = hash_file(wanted.path, remote.uploaded_part_bytes, count)
    difference = _difference(hashes, remote, known)
    if difference is not None and wanted.subject is not None:
        if _is_simulated(files.metadata(wanted.subject)):
            difference = f"of a SIMULATED subject ({difference})"
        elif known is not None and hashes.sha256 != known.sha256:
            difference = (
                f"damaged or changed: not the bytes that were fetched {known.fetched_at[:10]}"
            )
    return Present(hashes, difference)


def conversion_is_stale(npy: Path, sha256: str) -> bool:
    """Tell whether the `.safetensors` beside weights is of others than those of this SHA-256."""
    converted = npy.with_suffix(".safetensors")
    if not os.path.exists(converted):
        return False
    from berg.converted import read_info  # loads torch

    try:
        return read_info(converted)["source_sha256"] != sha256
    except FileFormatError:
        return True


def _difference(hashes: FileHashes, remote: RemoteFile, known: Record | None) -> str | None:
    difference = hashes.difference(remote)
    same_version = known is not None and known.etag == remote.etag
    if difference is None and not remote.has_checksum:
        # Only the record of what was fetched tells more than the size.
        if known is None or not same_version:
            return "of the same size, but the server gives no checksum to compare it with"
        if hashes.sha256 != known.sha256:
            return f"SHA-256 {hashes.sha256[:16]}…, where {known.sha256[:16]}… was fetched"
    if difference is not None and known is not None and hashes.sha256 == known.sha256:
        return (
            f"as it was fetched {known.fetched_at[:10]}; the bucket has another version now "
            f"({difference})"
        )
    return difference


def _conversion_difference(
    wanted: Wanted, remote: RemoteFile, known: Record | None, files: ModelFiles
) -> str | None:
    """Say why weights must not be put beside a `.safetensors` that lies there alone."""
    if wanted.kind != "weights" or wanted.subject is None:
        return None
    converted = files.weights_safetensors(wanted.subject)
    if not os.path.exists(converted):
        return None
    from berg.converted import read_info  # loads torch

    try:
        info = read_info(converted)
    except FileFormatError:
        return f"beside {converted.name}, which is damaged"
    if info["simulated"] == "true":
        return f"beside {converted.name} of a SIMULATED subject"
    is_other = info["source_bytes"] != str(remote.n_bytes)
    sha256 = known.sha256 if known is not None and known.etag == remote.etag else remote.sha256
    if sha256 is not None:
        is_other = info["source_sha256"] != sha256
    return f"beside {converted.name}, which was made from other weights" if is_other else None


def _is_simulated(metadata: Path) -> bool:
    try:
        return simulated_n_vertices(metadata) is not None
    except (FileFormatError, OSError):
        return False  # damaged, or not readable
