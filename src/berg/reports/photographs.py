"""The photographs that responses are of, found again by the images' names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from berg.errors import BERGError
from berg.sources import ImageCollection, ImageReader, ImageReference, find_images

# What a name ends in where several images lie in one file: photos.npy[3], shard.tar:0001.jpg,
# images.hdf5:imgBrick[3]
_WITHIN = re.compile(r"(?P<file>.+\.(?:npy|tar|h5|hdf|hdf5))(?P<inside>:.+|\[\d+\])", re.IGNORECASE)
_ROW = re.compile(r"\[(\d+)\]$")
_SAY_WHERE = "say where the photographs are: --images-from FOLDER"


@dataclass(frozen=True)
class Photograph:
    """A photograph, or why there is none.

    Attributes
    ----------
    pixels : numpy.ndarray of uint8, shape (3, side, side), or None
        Its central square.
    problem : str
        Why there is none, and what to do.
    """

    pixels: NDArray[np.uint8] | None
    problem: str = ""


def find_photographs(
    names: Sequence[str],
    folders: Iterable[Path],
    sources: Sequence[str | os.PathLike[str]] = (),
) -> list[Photograph]:
    """Find and read photographs by the names under which they were encoded.

    Parameters
    ----------
    names : sequence of str
        As `berg.sources.ImageCollection.names` gives them.
    folders : iterable of Path
        From where names may lead to files; the first file that is there is taken.
    sources : sequence of path-like
        As `berg.sources.find_images` takes them. Of these images the one is taken whose name
        ends as the wanted one does, in its file's name at least; where several end alike, the
        one that shares most folders.

    Returns
    -------
    list of Photograph
        One a name. A wrong photograph would be worse than none: where two fit equally well,
        neither is taken.

    Raises
    ------
    StimulusError
        If `sources` cannot be used, as `find_images` raises it.
    """
    found: dict[str, ImageReference | str] = {}
    if sources:
        found = _look_in(find_images(sources), names)
    for name in names:
        if name not in found and (reference := _follow(name, folders)) is not None:
            found[name] = reference
    with ImageReader() as reader:
        return [_read(reader, found.get(name, f"not found; {_SAY_WHERE}")) for name in names]


def _read(reader: ImageReader, found: ImageReference | str) -> Photograph:
    if isinstance(found, str):
        return Photograph(None, found)
    try:
        return Photograph(reader.read(found).pixels)
    except BERGError as error:
        return Photograph(None, str(error).splitlines()[0])


def _follow(name: str, folders: Iterable[Path]) -> ImageReference | None:
    """Go from a name to the image, from the first of the folders in which its file is."""
    file, inside = _split(name)
    for folder in folders:
        path = folder / file
        # Whatever the name is: of one too long, or in a closed folder, `is_file` raises.
        if not os.path.isfile(path):
            continue
        dataset = _ROW.sub("", inside) if inside.startswith(":") else ""
        is_shard = path.suffix.lower() == ".tar"
        try:
            images = find_images([path if is_shard else f"{path}{dataset}"])
        except BERGError:
            return None  # no image after all; the page says that it was not found
        return _pick(images, inside)
    return None


def _pick(images: ImageCollection, inside: str) -> ImageReference | None:
    """Return an image of a file: its row, its member, or the only one."""
    if row := _ROW.search(inside):
        return images[int(row[1])] if int(row[1]) < len(images) else None
    if not inside:
        return images[0] if len(images) == 1 else None
    places = [place for place, name in enumerate(images.names()) if name.endswith(inside)]
    return images[places[0]] if len(places) == 1 else None


def _look_in(images: ImageCollection, names: Sequence[str]) -> dict[str, ImageReference | str]:
    """Find names among images that lie elsewhere than they did."""
    wanted: dict[str, list[str]] = {}
    for name in names:
        wanted.setdefault(_parts(name)[-1], []).append(name)
    best: dict[str, tuple[int, list[int]]] = {}
    for place, candidate in enumerate(images.names()):
        parts = _parts(candidate)
        for name in wanted.get(parts[-1], ()):
            shared = _n_shared(parts, _parts(name))
            most, places = best.get(name, (0, []))
            if shared > most:
                best[name] = (shared, [place])
            elif shared == most:
                places.append(place)
    return {
        name: images[places[0]]
        if len(places) == 1
        else f"{len(places)} images end in this name; name the folder of the right one"
        for name, (_, places) in best.items()
    }


def _split(name: str) -> tuple[str, str]:
    """Return the file of an image, and where it lies inside."""
    within = _WITHIN.fullmatch(name)
    return (within["file"], within["inside"]) if within else (name, "")


def _parts(name: str) -> tuple[str, ...]:
    """Return folders and file of an image; the last is the file and what is inside."""
    file, inside = _split(name)
    path = PurePath(file)
    return (*path.parts[:-1], path.name + inside)


def _n_shared(parts: Sequence[str], other: Sequence[str]) -> int:
    pairs = zip(reversed(parts), reversed(other), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
