"""The responses to many images as files: a pair of maps, left and right, for each image."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from berg.responses.disk import check_space
from berg.responses.maps import SurfaceMap, write_map
from berg.responses.meshes import mesh_size
from berg.responses.surface_files import Kind, check_nibabel, safe_name

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
        Created if need be. The files are named by the image's row and name, as
        ``lh.image-000012_cat.func.gii``: sorted they are in order, and images of one name have
        files of their own. Older files of these names are replaced.
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
    MissingExtraError
        If nibabel is not installed.
    ResourceError
        If the disk cannot hold the files, or they cannot be written.
    """
    check_nibabel()
    n_images, names, provenance = responses.n_images, responses.names, responses.provenance
    lh_vertices, rh_vertices = responses.lh_vertices, responses.rh_vertices
    check_space(
        folder, n_images * _bytes_an_image(responses, kind), f"the maps of {n_images} images"
    )
    step = max(1, _BLOCK_BYTES // (4 * max(1, len(lh_vertices) + len(rh_vertices))))
    digits = max(6, len(str(max(0, n_images - 1))))
    paths = []
    with tqdm(
        total=n_images, desc="Writing", unit="image", disable=not show_progress
    ) as progress_bar:
        for start in range(0, n_images, step):
            block = slice(start, start + step)
            lh, rh = np.asarray(responses.lh[block]), np.asarray(responses.rh[block])
            for row, name in enumerate(names[block]):
                image = SurfaceMap(
                    lh=lh[row],
                    rh=rh[row],
                    lh_vertices=lh_vertices,
                    rh_vertices=rh_vertices,
                    name=name,
                    units=UNITS,
                    mesh=responses.mesh,
                    provenance=provenance,
                )
                file_name = f"image-{start + row:0{digits}d}_{short_name(name)}"
                paths.append(write_map(image, folder, file_name, kind))
                progress_bar.update()
    return paths


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
