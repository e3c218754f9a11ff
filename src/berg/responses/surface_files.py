"""One map of one hemisphere as a file that Workbench, Freeview and nilearn open."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from berg.errors import InvalidParameterError, MissingExtraError
from berg.surface.fsaverage import Hemi

Kind = Literal["gifti", "mgh"]
SUFFIXES: Mapping[Kind, str] = {"gifti": ".func.gii", "mgh": ".mgh"}

# What Workbench calls the hemispheres; without it, it refuses to lay a map on a surface.
_STRUCTURES: Mapping[Hemi, str] = {"lh": "CortexLeft", "rh": "CortexRight"}
# File systems take names of 255 bytes, encrypted ones 143; what comes before and behind the name,
# also while the file is written, adds 59: the subject, and 13 more for an image's row.
_NAME_BYTES = 80
# XML 1.0 has no character for these, not even an escaped one.
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, eq=False)
class HemisphereFile:
    """What a file of one hemisphere tells.

    Parameters
    ----------
    values : numpy.ndarray of floating dtype, shape (n_vertices,)
        One for each vertex of the mesh; NaN where there is none. Written as float32.
    hemi : {"lh", "rh"}
    name, units, mesh : str
        What the map shows, in which units, on which mesh.
    provenance : mapping
        What made it; written as JSON.
    """

    values: NDArray[np.floating[Any]]
    hemi: Hemi
    name: str
    units: str
    mesh: str
    provenance: Mapping[str, Any]


def safe_name(name: str) -> str:
    """Return a name as a part of a file name that every file system takes.

    Letters and digits of any script and ``._+=-`` stay; a run of anything else becomes one ``-``.
    Of a name longer than 80 bytes the end stays, which tells more than the beginning of a path,
    behind eight digits of the whole name's SHA-256.

    Examples
    --------
    >>> safe_name("photos/cat.jpg"), safe_name("nsd_stimuli.hdf5:imgBrick[3]")
    ('photos-cat.jpg', 'nsd_stimuli.hdf5-imgBrick-3')
    >>> safe_name("//")
    'map'
    """
    # Composed, as most file systems keep names: "é" is one character, not e and an accent.
    composed = unicodedata.normalize("NFC", name)
    kept = "".join(c if c.isalnum() or c in "._+=-" else " " for c in composed)
    safe = "-".join(kept.split()).strip(".-")
    encoded = safe.encode()
    if len(encoded) > _NAME_BYTES:
        digest = hashlib.sha256(composed.encode(errors="surrogatepass")).hexdigest()[:8]
        end = encoded[-(_NAME_BYTES - len(digest) - 1) :].decode(errors="ignore")
        safe = f"{digest}-{end.strip('.-')}"
    return safe or "map"


def encode(content: HemisphereFile, kind: Kind) -> bytes:
    """Return the bytes of a file of one hemisphere.

    Parameters
    ----------
    content : HemisphereFile
    kind : {"gifti", "mgh"}
        GIFTI keeps all of the content; MGH the values only.

    Returns
    -------
    bytes
        The same for the same content.

    Raises
    ------
    MissingExtraError
        If nibabel is not installed.
    """
    check_nibabel()
    return _gifti(content) if kind == "gifti" else _mgh(content)


def check_free(path: Path, encoded: bytes) -> None:
    """Refuse to write where something else is. A file of the same bytes may stand there.

    Raises
    ------
    InvalidParameterError
        If there is a file of other bytes, or something that is no file.
    """
    try:
        if path.read_bytes() == encoded:
            return
    except (FileNotFoundError, NotADirectoryError):  # the latter is told by writing
        return
    except OSError:  # a folder, or a file that may not be read
        pass
    raise InvalidParameterError(
        "there is another map of this name",
        got=str(path),
        accepted="a name that is not taken, or by a file of the same bytes",
        do='choose another folder or, for a single map, name="..."; or delete the file',
    )


def check_nibabel() -> None:
    """Raise `MissingExtraError` if nibabel is not installed."""
    if find_spec("nibabel") is None:
        raise MissingExtraError(
            "files of surface maps need nibabel", got="no nibabel", do='pip install "berg[plot]"'
        )


def _gifti(content: HemisphereFile) -> bytes:
    import nibabel.gifti

    gifti: Any = nibabel.gifti  # nibabel's classes are not typed
    name, units = _xml_text(content.name), _xml_text(content.units)
    # FreeSurfer takes a map of this intent as an overlay, and so does Workbench.
    array = gifti.GiftiDataArray(
        content.values.astype(np.float32, copy=False),
        intent="NIFTI_INTENT_NONE",
        meta=gifti.GiftiMetaData({"Name": name, "Units": units}),
    )
    array.coordsys = None  # for positions; on other data FreeSurfer's mris_convert stumbles over it
    about = {
        "AnatomicalStructurePrimary": _STRUCTURES[content.hemi],
        "Name": name,
        "Units": units,
        "Mesh": content.mesh,
        "Provenance": json.dumps(dict(content.provenance)),  # ASCII
    }
    image = gifti.GiftiImage(meta=gifti.GiftiMetaData(about), darrays=[array])
    encoded: bytes = image.to_bytes()
    return encoded


def _mgh(content: HemisphereFile) -> bytes:
    from nibabel.freesurfer import mghformat

    image_class: Any = mghformat.MGHImage
    values = content.values.astype(np.float32, copy=False)
    encoded: bytes = image_class(values[:, None, None], np.eye(4)).to_bytes()
    return encoded


def _xml_text(text: str) -> str:
    """Put a question mark where XML has no such character."""
    return _NOT_IN_XML.sub("?", text)
