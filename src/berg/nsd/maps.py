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
from berg.nsd.missing import GET_AGAIN, check_is_file

Float32s = npt.NDArray[np.float32]

_GZIP = b"\x1f\x8b"
_LITTLE_ENDIAN = b"\x01\0\0\0"  # the version, 1, which MGH has big-endian


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
    raw = b""
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
        swapped = raw.startswith(_LITTLE_ENDIAN)
        raise FileFormatError(
            f"{path} is not a surface map (MGH)",
            got="little-endian numbers" if swapped else f"{type(err).__name__}: {err}",
            accepted="a whole .mgh or .mgz file, of big-endian numbers",
            do=GET_AGAIN,
        ) from err
    if not values.size or values.size != values.shape[0]:
        raise FileFormatError(
            f"{path} is not a map of one number a vertex",
            got=f"shape {values.shape}",
            accepted="(n_vertices, 1, 1)",
            do=GET_AGAIN,
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
        For ``"lh"`` and ``"rh"``, (n_vertices,) float32; NaN where it is not known.

    Raises
    ------
    NSDFilesNotFoundError, FileFormatError
        As `read_map`; or if it is negative or infinite somewhere.
    """
    ncsnr = {}
    for hemi in ("lh", "rh"):
        path = files.ncsnr(subject, hemi)
        values = ncsnr[hemi] = read_map(path).astype(np.float32, copy=False)
        if n_wrong := np.count_nonzero((values < 0) | np.isinf(values)):
            raise FileFormatError(
                f"{path} is no map of signal-to-noise ratios",
                got=f"{n_wrong:,} of {len(values):,} vertices negative or infinite",
                accepted="finite numbers, not negative; NaN where it is not known",
                do=GET_AGAIN,
            )
    return ncsnr
