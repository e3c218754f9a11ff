"""Maps of the surface: one number a vertex, in FreeSurfer's .mgh or .mgz."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from nibabel.freesurfer.mghformat import MGHError, MGHImage
from nibabel.spatialimages import HeaderDataError

from berg.errors import FileFormatError
from berg.layout import NSDFiles
from berg.nsd.missing import ACCESS, check_is_file

Float32s = npt.NDArray[np.float32]

_GZIP = b"\x1f\x8b"


def read_map(path: Path) -> npt.NDArray[Any]:
    """Read a map.

    Parameters
    ----------
    path : Path
        ``.mgh``, or ``.mgz``, the same compressed.

    Returns
    -------
    (n_vertices,) array
        Of the file's dtype, in native byte order.

    Raises
    ------
    NSDFilesNotFoundError
        If the file does not exist.
    FileFormatError
        If it cannot be read, or holds more than one number a vertex.
    """
    check_is_file(path)
    try:
        raw = path.read_bytes()  # nibabel leaves an MGH file that it opens itself open
        raw = gzip.decompress(raw) if raw.startswith(_GZIP) else raw
        values = np.asarray(MGHImage.from_bytes(raw).dataobj)
    # What gzip and nibabel raise for other files, and for such that are cut off or overwritten.
    except (
        MGHError,
        HeaderDataError,
        zlib.error,
        OSError,
        EOFError,
        ValueError,
        TypeError,
        LookupError,
        OverflowError,
        MemoryError,
    ) as err:
        raise FileFormatError(
            f"{path} is not a surface map (MGH)",
            got=f"{type(err).__name__}: {err}",
            accepted="a whole .mgh or .mgz file",
            do=ACCESS,
        ) from err
    if not values.size or values.size != values.shape[0]:
        raise FileFormatError(
            f"{path} is not a map of one number a vertex",
            got=f"shape {values.shape}",
            accepted="(n_vertices, 1, 1)",
            do=ACCESS,
        )
    return values.reshape(-1).astype(values.dtype.newbyteorder("="), copy=False)


def read_ncsnr(files: NSDFiles, subject: int) -> dict[str, Float32s]:
    """Read the noise-ceiling signal-to-noise ratio that NSD gives for NSD-core.

    Parameters
    ----------
    files : NSDFiles
    subject : int
        Counted from 1.

    Returns
    -------
    dict
        For ``"lh"`` and ``"rh"``, (n_vertices,) float32.

    Raises
    ------
    NSDFilesNotFoundError, FileFormatError
        As `read_map`.
    """
    return {
        hemi: read_map(files.ncsnr(subject, hemi)).astype(np.float32, copy=False)
        for hemi in ("lh", "rh")
    }
