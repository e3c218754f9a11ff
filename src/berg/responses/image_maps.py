"""The responses to many images as files: a pair of maps, left and right, for each image."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from berg.responses.disk import check_space
from berg.responses.maps import SurfaceMap, encode_map, map_paths, write_map
from berg.responses.meshes import mesh_size
from berg.responses.surface_files import Kind, check_free, check_nibabel, safe_name

if TYPE_CHECKING:
    from berg.responses.lazy import Responses

UNITS = "z"
_BLOCK_BYTES = 64 * 2**20
# Above the values: headers, metadata but provenance, and the rest of a file's last disk block.
_OVERHEAD_BYTES = 8192


def write_image_maps(
    responses: Responses,
    folder: str | os.PathLike[str],
    kind: Kind,
    *,
    show_progress: bool = True,
) -> list[tuple[Path, Path]]:
    """Write the responses to each image as a map of either hemisphere.

    Parameters
    ----------
    responses : Responses
        Computed a block of images at a time.
    folder : path-like
        Created if need be. The files are named by the subject and the image's row and name, as
        ``lh.subject-01_image-000012_cat.func.gii``: sorted they are in order, and images of one
        name have files of their own. Files that are there already, the same, are left.
    kind : {"gifti", "mgh"}
        As `SurfaceMap.to_gifti` or `SurfaceMap.to_mgh` writes them.
    show_progress : bool, default True
        Whether to show a progress bar.

    Returns
    -------
    list of tuple of Path
        The files of each image, left and right: float32, one value for each vertex of the mesh,
        NaN where a vertex was not selected.

    Raises
    ------
    InvalidParameterError
        If there is a file of one of the names with other bytes. Nothing is written then.
    MissingExtraError
        If nibabel is not installed.
    ResourceError
        If the disk cannot hold the files, or they cannot be written.
    """
    check_nibabel()
    n_images = responses.n_images
    digits = max(6, len(str(max(0, n_images - 1))))
    provenance = responses.provenance
    file_names = [
        f"image-{row:0{digits}d}_{short_name(name)}" for row, name in enumerate(responses.names)
    ]
    pairs = [map_paths(folder, name, kind, provenance) for name in file_names]
    # What is there already, of an earlier run, is looked at before anything is written.
    there = [[os.path.exists(path) for path in pair] for pair in pairs]
    n_there = sum(map(all, there))
    n_bytes = (n_images - n_there) * _bytes_an_image(responses, kind)
    check_space(folder, n_bytes, f"the maps of {n_images - n_there} images")
    for row, image in _maps(responses, [any(each) for each in there]):
        for path, encoded in zip(pairs[row], encode_map(image, kind), strict=True):
            check_free(path, encoded)
    with tqdm(
        total=n_images, initial=n_there, desc="Writing", unit="image", disable=not show_progress
    ) as progress_bar:
        for row, image in _maps(responses, [not all(each) for each in there]):
            write_map(image, folder, file_names[row], kind)
            progress_bar.update()
    return pairs


def _maps(responses: Responses, wanted: Sequence[bool]) -> Iterator[tuple[int, SurfaceMap]]:
    """Give the maps of the images that are wanted, with their rows.

    Blocks are the same whichever are wanted, and so is the rounding of float32.
    """
    lh_vertices, rh_vertices = responses.lh_vertices, responses.rh_vertices
    names, provenance = responses.names, responses.provenance
    step = max(1, _BLOCK_BYTES // (4 * max(1, len(lh_vertices) + len(rh_vertices))))
    for start in range(0, responses.n_images, step):
        block = slice(start, start + step)
        rows = [start + i for i, is_wanted in enumerate(wanted[block]) if is_wanted]
        if not rows:
            continue
        lh, rh = np.asarray(responses.lh[block]), np.asarray(responses.rh[block])
        for row in rows:
            yield (
                row,
                SurfaceMap(
                    lh=lh[row - start],
                    rh=rh[row - start],
                    lh_vertices=lh_vertices,
                    rh_vertices=rh_vertices,
                    name=names[row],
                    units=UNITS,
                    mesh=responses.mesh,
                    provenance=provenance,
                ),
            )


def short_name(name: str) -> str:
    """Return what tells an image from others beside it: no folders, no ending.

    Examples
    --------
    >>> short_name("photos/cat.jpg"), short_name("nsd_stimuli.hdf5:imgBrick[3]")
    ('cat', 'nsd_stimuli.hdf5-imgBrick-3')
    """
    last = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
    return safe_name(re.sub(r"\.[A-Za-z]{3,4}$", "", last))


def _bytes_an_image(responses: Responses, kind: Kind) -> int:
    """Return how much disk the two files of an image take at most."""
    size = mesh_size(responses.mesh)
    if kind == "mgh":
        return 2 * (4 * size + _OVERHEAD_BYTES)
    about = len(json.dumps(dict(responses.provenance))) + _OVERHEAD_BYTES
    values = 0
    for vertices in (responses.lh_vertices, responses.rh_vertices):
        # GIFTI writes compressed bytes as text, four characters for three. Responses compress
        # by 8 %, if at all; NaN to a thousandth, but for a few bytes where they are interrupted.
        values += 4 * min(size, 2 * len(vertices)) + size // 100
    return 2 * about + values * 4 // 3
