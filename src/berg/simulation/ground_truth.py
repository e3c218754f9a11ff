"""What the vertices of a simulated subject respond to, and how reliably: the ground truth.

A vertex reads out the first principal-component scores of an image, compressed, and products
of them (see `drives`), which a linear model hardly learns. Its readout is the sum of those of the
regions it belongs to and of a smooth random field over the cortex, so that regions differ,
neighbours agree, and the maps look like responses of a brain. How much of a response is signal
follows from the distance to visual cortex.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from berg.surface.fsaverage import FULL_LEVEL, edges, n_vertices, upsample

Floats = npt.NDArray[np.floating]
Float32s = npt.NDArray[np.float32]
Indices = npt.NDArray[np.integer]

# The maps are made where vertices are 3.7 mm apart and up-sampled from there; random fields
# are drawn where they are 15 mm apart, about the grain of category maps in visual cortex.
_MAP_LEVEL = 5
_FIELD_LEVEL = 3
_EDGE_STEPS = 3  # steps of averaging with neighbours: borders of regions blur over 4 mm
_SKIRT_STEPS = 60  # and signal fades over about 2 cm around visual cortex

# Noise ceilings, for the mean of three trials (r2, 0 to 1). In NSD they reach 0.7 in the best
# vertices of visual cortex, and 0.1 is where published plots end (Allen et al., 2022).
_CEILING_IN_VISUAL_CORTEX = (0.3, 0.7)
_CEILING_ELSEWHERE = 0.05
_N_REPEATS = 3

N_READOUT_SCORES = 50  # those that new images hardly shrink; later components fit the sample
_FIELD_SHARE = 0.5  # of a readout's variance, next to the regions it belongs to

# Neurons saturate, and an image unlike all training images must not decide a map alone.
_SATURATION_SD = 2.0
# Variance of the products next to that of the scores themselves. With it the model of subject 1
# (seed 0, full size) explains 68 % of what can be explained in nsdgeneral of the test images, and
# 32 % of the synthetic ones (medians, measured). Without it, 82 to 88 % and 55 to 74 % (random
# readouts of three subjects' scores, measured): more than in any real brain.
PRODUCT_SHARE = 0.25


@dataclass(frozen=True)
class GroundTruth:
    """One hemisphere's true tuning and reliability.

    Attributes
    ----------
    readout : (n_vertices, n_drives) float32
        ``drives @ readout.T`` is the signal, with variance 1 over the reference images.
    ncsnr : (n_vertices,) float32
        Standard deviation of the signal over that of a single trial's noise.
    """

    readout: Float32s
    ncsnr: Float32s

    @property
    def signal_sd(self) -> Float32s:
        """Standard deviation of the signal where a single trial's variance is 1."""
        sd: Float32s = self.ncsnr * self.noise_sd
        return sd

    @property
    def noise_sd(self) -> Float32s:
        """Standard deviation of the noise where a single trial's variance is 1."""
        sd: Float32s = (1 / np.sqrt(1 + self.ncsnr**2)).astype(np.float32)
        return sd


def compress(whitened: Floats, saturation_sd: float) -> Floats:
    """Return scores that are linear near zero and never larger than `saturation_sd`."""
    compressed: Floats = saturation_sd * np.tanh(whitened / saturation_sd)
    return compressed


def drives(whitened: Floats) -> Floats:
    """Return what vertices read out: compressed scores, and products of neighbouring ones.

    Parameters
    ----------
    whitened : (n_images, n_scores) float
        Scores with variance 1 over the training images.

    Returns
    -------
    (n_images, 2 * n_scores) float
        Linear up to about 2 standard deviations and bounded beyond; the second half are the
        products of each with the one before it.
    """
    compressed = compress(whitened, _SATURATION_SD)
    return np.hstack([compressed, compressed * np.roll(compressed, 1, axis=1)])


def draw_region_readouts(
    names: Mapping[str, object], amplitudes: Floats, rng: np.random.Generator
) -> dict[str, Floats]:
    """Draw what each region responds to; one set serves both hemispheres.

    Parameters
    ----------
    names : mapping of str
        Names of regions. Parts of one area (V1v and V1d, FFA-1 and FFA-2) share a readout.
    amplitudes : (n_drives,) float
        Standard deviation of the weight of each drive.
    rng : numpy.random.Generator

    Returns
    -------
    dict of str to (n_drives,) float64
    """
    areas = {name: re.sub(r"(?<=^V\d)[vd]$|-\d$", "", name) for name in names}
    drawn = {area: amplitudes * rng.standard_normal(len(amplitudes)) for area in areas.values()}
    return {name: drawn[area] for name, area in areas.items()}


def draw_ground_truth(
    rois: Mapping[str, Indices],
    region_readouts: Mapping[str, Floats],
    reference_drives: Floats,
    amplitudes: Floats,
    rng: np.random.Generator,
    level: int = FULL_LEVEL,
    product_share: float = PRODUCT_SHARE,
) -> GroundTruth:
    """Draw one hemisphere's ground truth.

    Parameters
    ----------
    rois : mapping of str to (n_roi_vertices,) int
        Vertex indices of every region; together they are visual cortex.
    region_readouts : mapping of str to (n_drives,) float
        From `draw_region_readouts`.
    reference_drives : (n_images, n_drives) float
        `drives` of the images for which the noise ceilings hold: over them every vertex's
        signal has variance 1.
    amplitudes : (n_drives,) float
        Standard deviation of the weight of each drive.
    rng : numpy.random.Generator
    level : int
        Resolution of the mesh; 7 is fsaverage.
    product_share : float
        Share of the signal's variance that the second half of the drives has, which are products
        of the first. 0 says that there are no products.

    Returns
    -------
    GroundTruth
    """
    coarse = min(level, _MAP_LEVEL)
    count = n_vertices(coarse)
    masks = {name: np.isin(np.arange(count), indices) for name, indices in rois.items()}
    visual = np.any([*masks.values(), np.zeros(count, bool)], axis=0)

    readout = np.sqrt(_FIELD_SHARE) * _random_fields(amplitudes, rng, coarse)
    for name, mask in masks.items():
        weight = np.sqrt(1 - _FIELD_SHARE) * _smooth(mask, _EDGE_STEPS, coarse)
        readout += np.outer(weight, region_readouts[name])
    readout = upsample(readout.astype(np.float32), level)
    covariance = np.cov(reference_drives, rowvar=False, ddof=0).astype(np.float32)
    parts = [(slice(None), 1.0)]
    if product_share > 0:
        linear, products = slice(len(covariance) // 2), slice(len(covariance) // 2, None)
        parts = [(linear, 1 - product_share), (products, product_share), *parts]
    for part, share in parts:
        weights = readout[:, part]
        variance = np.einsum("vi,vi->v", weights @ covariance[part, part], weights)
        weights *= np.sqrt(share / variance)[:, None]

    low, high = _CEILING_IN_VISUAL_CORTEX
    patchy, elsewhere = _random_fields(np.ones(2), rng, coarse).T
    inside = low + (high - low) / (1 + np.exp(-2 * patchy))
    core, skirt = (_smooth(visual, steps, coarse) for steps in (_EDGE_STEPS, _SKIRT_STEPS))
    # Elsewhere some vertices have a little signal, and many have none at all.
    ceiling = inside * (core + skirt) / 2 + _CEILING_ELSEWHERE * np.maximum(elsewhere, 0) / 2
    ceiling = upsample(np.where(ceiling < 1e-3, 0.0, ceiling), level)
    ncsnr = np.sqrt(ceiling / (1 - ceiling) / _N_REPEATS)
    return GroundTruth(readout, ncsnr.astype(np.float32))


def _random_fields(amplitudes: Floats, rng: np.random.Generator, level: int) -> Floats:
    """Draw one smooth field per amplitude; (n_vertices, n_fields)."""
    grain = rng.standard_normal((n_vertices(min(level, _FIELD_LEVEL)), len(amplitudes)))
    return upsample(grain * amplitudes, level)


def _smooth(mask: npt.NDArray[np.bool_], n_steps: int, level: int) -> npt.NDArray[np.float64]:
    """Average a mask with its neighbours, as often as gives the same width at every level."""
    ends, values = edges(level), mask.astype(np.float64)
    a, b = ends.T
    degree = 1 + np.bincount(ends.ravel(), minlength=len(mask))
    for _ in range(max(1, round(n_steps / 4 ** (_MAP_LEVEL - level)))):
        values = (
            values + np.bincount(a, values[b], len(mask)) + np.bincount(b, values[a], len(mask))
        )
        values /= degree
    return values
