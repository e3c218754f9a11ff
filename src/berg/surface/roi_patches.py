"""Regions of interest for a simulated subject: contiguous patches at plausible places.

No one's masks are used: every region is grown on the sphere from an approximate seed, to
exactly the size asked for. V1, V2 and V3 are bands along the calcarine sulcus, each
around the one before and all around the foveal end, with the upper bank dorsal and the lower
ventral; hV4 lies beyond V3v. All other regions are ovals with irregular outlines. As in NSD,
regions of one collection never overlap, while those of different collections may.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from berg.errors import InvalidParameterError, did_you_mean
from berg.surface.fsaverage import (
    FULL_LEVEL,
    RADIUS_MM,
    Hemi,
    load_packaged,
    n_vertices,
    neighbours,
    sphere,
    upsample,
)
from berg.surface.patches import Neighbours, grow_patch

Vector = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Patches = dict[str, npt.NDArray[np.int64]]

ROI_COLLECTIONS: dict[str, tuple[str, ...]] = {
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
    "streams": (
        "early",
        "midventral",
        "midlateral",
        "midparietal",
        "ventral",
        "lateral",
        "parietal",
    ),
    "nsdgeneral": ("nsdgeneral",),
}
"""The regions of the model card by NSD's collection; within one they never overlap."""

# Middle of V1 on fsaverage's sphere and the direction from there along the calcarine sulcus to
# its anterior end (far periphery), in mm. Rounded centroid and first principal axis of V1 of one
# subject of NSD's population receptive field mapping (Allen et al., 2022).
_CALCARINE: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "lh": ((13, -84, -52), (0.92, 0.30, -0.25)),
    "rh": ((-42, -71, -57), (-0.85, 0.52, 0.02)),
}
# On the sphere V1 is about 38 mm long (same source): a line of 31 mm, which the bands surround,
# and behind it the rounded foveal end, as deep as V1 is wide to one side (some 8 mm).
_CALCARINE_ENDS_MM = (-10.0, 21.0)
_HV4_ALONG_MM = -6.0  # hV4 sits at the foveal half of V3v

# Seeds of the other regions: right-hemisphere pial coordinates (mm, x to the right); the left
# hemisphere mirrors x. Approximate: within a centimetre of where such regions are reported, good
# enough for a simulated subject and no atlas. For EBA see Downing et al. 2001; FBA Peelen &
# Downing 2005; OFA and FFA Kanwisher et al. 1997, Weiner & Grill-Spector 2012; aTL Rajimehr et
# al. 2009; PPA Epstein & Kanwisher 1998; OPA Dilks et al. 2013; word areas Cohen et al. 2002.
# The mid-temporal regions continue these chains forward. Streams and nsdgeneral: rounded
# centroids of one subject's masks in NSD (Allen et al., 2022).
# Then the length of the oval over its width, and its long axis: "y" back to front, "z" upward.
_SEEDS: dict[str, tuple[tuple[float, float, float], float, str]] = {
    "EBA": ((49, -72, 4), 1.5, "z"),
    "FBA-1": ((40, -54, -18), 1.6, "y"),
    "FBA-2": ((41, -42, -21), 1.6, "y"),
    "mTL-bodies": ((42, -28, -25), 1.4, "y"),
    "OFA": ((38, -80, -12), 1.4, "y"),
    "FFA-1": ((39, -60, -16), 1.6, "y"),
    "FFA-2": ((39, -46, -19), 1.6, "y"),
    "mTL-faces": ((38, -30, -24), 1.4, "y"),
    "aTL-faces": ((35, -8, -36), 1.4, "y"),
    "OPA": ((34, -81, 20), 1.4, "z"),
    "PPA": ((27, -46, -10), 2.0, "y"),
    "RSC": ((14, -56, 12), 1.6, "z"),
    "OWFA": ((41, -77, -10), 1.4, "y"),
    "VWFA-1": ((44, -60, -14), 1.6, "y"),
    "VWFA-2": ((46, -46, -17), 1.6, "y"),
    "mfs-words": ((36, -48, -17), 1.6, "y"),
    "mTL-words": ((50, -32, -20), 1.4, "y"),
    "midventral": ((33, -82, -13), 2.0, "z"),
    "midlateral": ((37, -85, 3), 1.6, "z"),
    "midparietal": ((26, -87, 17), 1.6, "z"),
    "ventral": ((36, -50, -17), 1.8, "y"),
    "lateral": ((47, -66, 8), 1.3, "z"),
    "parietal": ((27, -70, 32), 1.6, "z"),
    "nsdgeneral": ((29, -98, -13), 1.6, "z"),
}
_JITTER_MM = 3.0  # subjects' peaks scatter by several mm (s.d. of each seed on the sphere)
_ROUGHNESS = 0.08  # s.d. of the log distance: outlines are irregular, not ellipses
_ROUGHNESS_LEVEL = 4  # its grain: vertices about 7 mm apart


@dataclass(frozen=True)
class _Brain:
    """One hemisphere of one simulated subject, ready to grow regions on."""

    hemi: Hemi
    unit: Vector  # (n_vertices, 3), directions of the sphere's vertices
    mesh: Neighbours
    roughness: Vector  # (n_vertices,), factor on every distance
    jitter: dict[str, Vector]  # (2,) mm for each seed

    def flatten(self, centre: Vector, axis: Vector) -> tuple[Vector, Vector]:
        """Map the sphere to a plane, keeping distances from the centre; mm along and across."""
        along = _unit(axis - (axis @ centre) * centre)
        across = np.cross(centre, along)
        angle = np.arccos(np.clip(self.unit @ centre, -1.0, 1.0))
        sine = np.sin(angle)
        # At the centre, and at its antipode, angle / sine has no value of its own; 1 serves both.
        stretch = RADIUS_MM * np.divide(angle, sine, out=np.ones_like(angle), where=sine > 1e-9)
        return stretch * (self.unit @ along), stretch * (self.unit @ across)

    def shifted(self, name: str, centre: Vector) -> Vector:
        """Return the direction moved by this subject's jitter of the named seed."""
        along = _unit(np.cross(centre, np.array([1.0, 0.0, 0.0])))
        first, second = self.jitter[name] / RADIUS_MM
        return _unit(centre + first * along + second * np.cross(centre, along))


def roi_patches(
    hemi: Hemi,
    sizes: Mapping[str, int],
    rng: np.random.Generator,
    level: int = FULL_LEVEL,
) -> Patches:
    """Place regions of interest on one hemisphere of a simulated subject.

    Parameters
    ----------
    hemi : {"lh", "rh"}
        Hemisphere.
    sizes : mapping of str to int
        Number of vertices of each region, by the names of the model card; 0 gives an empty one.
    rng : numpy.random.Generator
        Shifts the seeds by a few mm and roughens the outlines, so that subjects differ.
    level : int
        Resolution of the mesh; 7 is fsaverage. Scale the sizes with it: a quarter per level.

    Returns
    -------
    dict of str to numpy.ndarray of int64, shape (sizes[name],)
        Sorted vertex indices of every region, in the order of `sizes`.

    Raises
    ------
    InvalidParameterError
        A name is unknown, a size is negative, or the regions do not fit on the mesh.

    References
    ----------
    Allen, E. J., et al. (2022). A massive 7T fMRI dataset to bridge cognitive neuroscience and
    artificial intelligence. Nature Neuroscience 25, 116-126.
    """
    known = [name for names in ROI_COLLECTIONS.values() for name in names]
    for name in sizes:
        if name not in known:
            raise InvalidParameterError(
                "unknown region of interest",
                got=repr(name),
                accepted=", ".join(known) + "." + did_you_mean(name, known),
            )
    brain = _draw_brain(hemi, rng, level)
    wanted = {name: sizes.get(name, 0) for name in known}
    patches = _retinotopic(brain, wanted)
    for collection in ("floc-bodies", "floc-faces", "floc-places", "floc-words"):
        taken = np.zeros(n_vertices(level), dtype=bool)
        for name in ROI_COLLECTIONS[collection]:
            patches[name] = _oval(brain, name, wanted[name], taken)
    patches |= _streams(brain, wanted, patches)
    inner = [patches[name] for name in ("early", "midventral", "midlateral", "midparietal")]
    patches["nsdgeneral"] = _oval(
        brain, "nsdgeneral", wanted["nsdgeneral"], np.zeros(n_vertices(level), dtype=bool), inner
    )
    return {name: patches[name] for name in sizes}


def _draw_brain(hemi: Hemi, rng: np.random.Generator, level: int) -> _Brain:
    # Every draw is made whatever the sizes, so that one region's size moves no other's place.
    jitter = {name: rng.normal(0.0, _JITTER_MM, size=2) for name in ("V1", *_SEEDS)}
    grain = rng.standard_normal(n_vertices(min(level, _ROUGHNESS_LEVEL)))
    vertices = sphere(hemi, level).vertices.astype(np.float64)
    return _Brain(
        hemi=hemi,
        unit=vertices / np.linalg.norm(vertices, axis=1, keepdims=True),
        mesh=neighbours(level),
        roughness=np.exp(_ROUGHNESS * upsample(grain, level)),
        jitter=jitter,
    )


def _retinotopic(brain: _Brain, wanted: Mapping[str, int]) -> Patches:
    """Grow V1 to hV4 as bands around the calcarine sulcus, upper and lower bank apart."""
    centre, axis = (np.array(triple, dtype=np.float64) for triple in _CALCARINE[brain.hemi])
    x, y = brain.flatten(brain.shifted("V1", _unit(centre)), axis)
    if brain.hemi == "rh":  # forward is medial, so `across` points up in lh and down in rh
        y = -y
    back, front = _CALCARINE_ENDS_MM
    depth = np.hypot(x - np.clip(x, back, front), y) * brain.roughness
    patches: Patches = {}
    for bank, half in (("d", y > 0), ("v", y <= 0)):
        free = half & (x < front)
        for area in ("V1", "V2", "V3"):
            patches[area + bank] = _grow(brain, depth, wanted[area + bank], free)
    hv4 = np.hypot(depth, 0.7 * (x - _HV4_ALONG_MM))
    patches["hV4"] = _grow(brain, hv4, wanted["hV4"], free)
    return patches


def _streams(brain: _Brain, wanted: Mapping[str, int], areas: Patches) -> Patches:
    """Grow NSD's streams: early holds V1 to V3, midventral hV4, and the rest lies around."""
    free = np.ones(len(brain.unit), dtype=bool)
    retinotopic = {name: areas[name] for name in ROI_COLLECTIONS["prf-visualrois"]}
    hv4 = retinotopic.pop("hV4")
    centre, axis = (np.array(triple, dtype=np.float64) for triple in _CALCARINE[brain.hemi])
    x, y = brain.flatten(brain.shifted("V1", _unit(centre)), axis)
    back, front = _CALCARINE_ENDS_MM
    # Beyond V3 the early stream goes on forward, into the far periphery along the calcarine.
    depth = np.hypot(x - np.clip(x, back, front + 15.0), y) * brain.roughness
    for patch in retinotopic.values():
        depth[patch] = -1.0
    free[hv4] = False
    patches = {"early": _grow(brain, depth, wanted["early"], free)}
    free[hv4] = True
    free[patches["early"]] = False
    taken = ~free
    for name in ROI_COLLECTIONS["streams"][1:]:
        inner = [hv4] if name == "midventral" else []
        patches[name] = _oval(brain, name, wanted[name], taken, inner)
    return patches


def _oval(
    brain: _Brain,
    name: str,
    size: int,
    taken: Mask,
    inner: list[npt.NDArray[np.int64]] | None = None,
) -> npt.NDArray[np.int64]:
    """Grow one region from its seed, the vertices of `inner` first; mark it as taken."""
    position, ratio, axis = _SEEDS[name]
    seed = np.array(position, dtype=np.float64)
    if brain.hemi == "lh":
        seed[0] *= -1
    pial = load_packaged(brain.hemi, "pial")[0]
    closest = int(np.argmin(((pial - seed) ** 2).sum(axis=1)))
    centre = load_packaged(brain.hemi, "sphere")[0][closest].astype(np.float64)
    forward = np.array([0.0, 1.0, 0.0] if axis == "y" else [0.0, 0.0, 1.0])
    along, across = brain.flatten(brain.shifted(name, _unit(centre)), forward)
    distance = np.hypot(along / np.sqrt(ratio), across * np.sqrt(ratio)) * brain.roughness
    for patch in inner or []:
        distance[patch] = -1.0
    patch = _grow(brain, distance, size, ~taken)
    taken[patch] = True
    return patch


def _grow(brain: _Brain, distance: Vector, size: int, free: Mask) -> npt.NDArray[np.int64]:
    """Grow a patch from the nearest free vertex; take it out of `free`."""
    seed = int(np.argmin(np.where(free, distance, np.inf)))
    patch = grow_patch(brain.mesh, distance, seed, size, free)
    free[patch] = False
    return patch


def _unit(vector: Vector) -> Vector:
    return vector / np.linalg.norm(vector)
