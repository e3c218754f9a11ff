"""Regions of interest of a simulated NSD tree, on surfaces of the subjects' own.

The subject's native surface has a tenth more vertices than fsaverage, in an order of their own.
Labels are written there, and the transform says where fsaverage's vertices find theirs.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from berg.atomic import write_atomically
from berg.catalog import DEFAULT_MODEL_ID, find_card
from berg.errors import InvalidParameterError
from berg.layout import NSDFiles
from berg.simulation.nsd_tree.chance import Use, chance
from berg.simulation.records import HEMIS
from berg.simulation.subject import roi_sizes
from berg.surface.fsaverage import Hemi, edges, n_vertices
from berg.surface.roi_patches import ROI_COLLECTIONS, Patches, roi_patches

_NSDGENERAL = "nsdgeneral"
_NATIVE_SHARE = 1.1  # native vertices for each of fsaverage's
# Of 64 subjects drawn 10 were too crowded at level 3, and 3 at level 4 (measured).
_N_ATTEMPTS = 50
_DOUBLE_SHARE = 0.02  # of fsaverage's vertices find the native vertex of a neighbour


def draw_patches(subject: int, seed: int, level: int) -> dict[Hemi, Patches]:
    """Draw where a subject's regions lie on fsaverage.

    Parameters
    ----------
    subject : int
        All subjects have one nsdgeneral. What the card's subject 1 lacks, all lack; every other
        subject lacks one region more.
    seed : int
    level : int
        Resolution of the mesh.

    Returns
    -------
    dict of {"lh", "rh"} to dict of str to (n_roi_vertices,) int64
    """
    card = find_card(DEFAULT_MODEL_ID)
    # Any category-selective region that some other subject has.
    floc = [name for group, names in ROI_COLLECTIONS.items() if "floc" in group for name in names]
    some = [name for name in floc if any(card.rois[name].values())]
    lacking = chance(seed, Use.LACKING_REGION, subject).choice(some)
    patches: dict[Hemi, Patches] = {}
    for hemi in HEMIS:
        sizes = roi_sizes(card, hemi, level)
        common = _place(hemi, sizes, level, seed, 0)
        if subject > 1:
            sizes[str(lacking)] = 0
        patches[hemi] = _place(hemi, sizes, level, seed, subject) | {
            _NSDGENERAL: common[_NSDGENERAL]
        }
    return patches


def _place(hemi: Hemi, sizes: Mapping[str, int], level: int, seed: int, subject: int) -> Patches:
    """Place regions; where their jitter leaves no room for one of them, place them anew."""
    for attempt in range(_N_ATTEMPTS):
        rng = chance(seed, Use.REGIONS, subject, HEMIS.index(hemi), attempt)
        with suppress(InvalidParameterError):
            return roi_patches(hemi, sizes, rng, level)
    raise InvalidParameterError(
        "the regions do not fit on the brain", got=f"level={level}, seed={seed}", do="another seed"
    )


def write_regions(
    files: NSDFiles,
    subject: int,
    patches: Mapping[Hemi, Patches],
    seed: int,
    level: int,
) -> dict[Hemi, Patches]:
    """Write labels, names and transforms of a subject.

    Even subjects have no nsdgeneral of their own, but find it on fsaverage; and their lists of
    names leave out what they lack, where those of odd subjects name it all the same.

    Parameters
    ----------
    files : NSDFiles
    subject : int
    patches : mapping of {"lh", "rh"} to dict of str to (n_roi_vertices,) int64
        Regions on fsaverage.
    seed : int
    level : int
        Resolution of the mesh.

    Returns
    -------
    dict of {"lh", "rh"} to dict of str to (n_roi_vertices,) int64
        Sorted fsaverage vertices of each region, as they read back through the transform.
    """
    lacking = {name for name in patches["lh"] if not any(len(patches[h][name]) for h in HEMIS)}
    names = {
        collection: [name for name in members if subject % 2 or name not in lacking]
        for collection, members in ROI_COLLECTIONS.items()
        if subject % 2 or collection != _NSDGENERAL
    }
    for collection, members in names.items():
        with write_atomically(files.roi_names(subject, collection)) as file:
            file.write(_colour_table(members).encode())
    found: dict[Hemi, Patches] = {}
    for side, hemi in enumerate(HEMIS):
        native = _draw_transform(level, chance(seed, Use.TRANSFORM, subject, side))
        dtype = np.float32 if subject % 2 else np.int32  # both hold whole numbers; readers cope
        save_map(files.white_to_fsaverage(subject, hemi), (native + 1).astype(dtype))
        found[hemi] = {name: np.arange(0) for name in patches[hemi]}
        for collection, members in names.items():
            labels = np.zeros(round(_NATIVE_SHARE * len(native)), np.int32)
            for number, name in enumerate(members, start=1):
                labels[native[patches[hemi][name]]] = number
            save_map(files.roi_labels(subject, hemi, collection), labels)
            for number, name in enumerate(members, start=1):
                found[hemi][name] = np.flatnonzero(labels[native] == number)
        if _NSDGENERAL not in names:
            found[hemi][_NSDGENERAL] = patches[hemi][_NSDGENERAL]
        whole = np.zeros(len(native), np.int32)
        whole[patches[hemi][_NSDGENERAL]] = 1
        save_map(files.fsaverage_nsdgeneral(hemi), whole)
    return found


def save_map(path: Path, values: npt.NDArray[np.float32 | np.int32]) -> None:
    """Write one number a vertex as an ``.mgh`` file, or compressed as ``.mgz``."""
    from nibabel.freesurfer import mghformat

    image_class: Any = mghformat.MGHImage  # nibabel's constructor is not typed
    content = image_class(values[:, None, None], np.eye(4)).to_bytes()
    with write_atomically(path) as file:
        # Without a time stamp, the same map gives the same file.
        file.write(gzip.compress(content, mtime=0) if path.suffix == ".mgz" else content)


def _draw_transform(level: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw the 0-based native vertex of every fsaverage vertex; a few share a neighbour's."""
    count, ends = n_vertices(level), edges(level)
    native = rng.permutation(round(_NATIVE_SHARE * count))[:count]
    one, other = ends[rng.permutation(len(ends))[: round(_DOUBLE_SHARE * count)]].T
    native[one] = native[other]
    return native


def _colour_table(names: list[str]) -> str:
    """Write names as FreeSurfer does: with and without colours, between spaces and tabs."""
    lines = ["0 Unknown"]
    for number, name in enumerate(names, start=1):
        lines.append(
            f"{number} {name}" if number % 2 else f" {number}\t{name}\t{20 * number} 0 0 0"
        )
    return "\n".join(lines) + "\n"
