"""How well responses are predicted, and how well they could be: pure functions of arrays.

Images (or trials) come first and vertices last. Sums are taken in float64, a block of
vertices at a time, so that a whole hemisphere costs some MB. What is undefined,
such as the correlation with a constant, is NaN.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from berg.errors import InvalidParameterError

Floats = npt.NDArray[np.floating]
Float64s = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer]
Indices = npt.NDArray[np.intp]

_BLOCK_BYTES = 4 * 2**20  # one float64 temporary; measured twice as fast as 32 MiB, for the cache


@dataclass(frozen=True)
class Scores:
    """Encoding accuracy of every vertex.

    Attributes
    ----------
    correlation : (n_vertices,) float64
        Pearson correlation of measured and predicted responses, negative set to 0.
    r2 : (n_vertices,) float64
        Its square.
    noise_ceiling : (n_vertices,) float64
        Largest r2 that the noise in the measured responses allows, 0 to 1.
    explained_variance_percent : (n_vertices,) float64
        r2 in percent of the noise ceiling, at most 100.
    """

    correlation: Float64s
    r2: Float64s
    noise_ceiling: Float64s
    explained_variance_percent: Float64s


def score_responses(
    measured: Floats, predicted: Floats, *, ncsnr: npt.ArrayLike, repeats: npt.ArrayLike
) -> Scores:
    """Score predicted responses against measured ones.

    Parameters
    ----------
    measured : (n_images, n_vertices) float
        Measured responses, averaged over the repeats of each image.
    predicted : (n_images, n_vertices) float
        In silico responses to the same images.
    ncsnr : (n_vertices,) float
        Noise-ceiling signal-to-noise ratio of a single trial.
    repeats : (n_images,) int, or int
        Trials that were averaged, per image.

    Returns
    -------
    Scores

    Raises
    ------
    InvalidParameterError
        If the shapes differ, or a repeat count is not positive.

    References
    ----------
    Allen et al. (2022), https://doi.org/10.1038/s41593-021-00962-x
    """
    r = correlation(measured, predicted)
    r = np.maximum(r, 0.0)  # propagates NaN
    ceiling = noise_ceiling(ncsnr, repeats)
    return Scores(r, r**2, ceiling, explained_variance_percent(r**2, ceiling))


def correlation(a: Floats, b: Floats) -> Float64s:
    """Pearson correlation of two arrays, column by column.

    Parameters
    ----------
    a, b : (n_images, n_vertices) float
        Columns that are paired by position.

    Returns
    -------
    (n_vertices,) float64
        In [-1, 1]; NaN where a column is constant, or holds a NaN.

    Raises
    ------
    InvalidParameterError
        If the two are not 2-D arrays of one shape.

    Examples
    --------
    >>> correlation(np.array([[1.0, 5], [2, 5], [3, 5]]), np.array([[2.0, 1], [4, 2], [6, 4]]))
    array([ 1., nan])
    """
    if a.ndim != 2 or a.shape != b.shape:
        raise InvalidParameterError(
            "two sets of responses cannot be compared",
            got=f"shapes {a.shape} and {b.shape}",
            accepted="two arrays (n_images, n_vertices) of one shape",
        )
    r = np.full(a.shape[1], np.nan)
    for block in _vertex_blocks(a.shape):
        x, y = _centred(a[:, block]), _centred(b[:, block])
        covariance = np.einsum("iv,iv->v", x, y)
        norms = np.sqrt(np.einsum("iv,iv->v", x, x)) * np.sqrt(np.einsum("iv,iv->v", y, y))
        np.divide(covariance, norms, out=r[block], where=norms != 0)
    return np.clip(r, -1.0, 1.0, out=r)


def noise_ceiling(ncsnr: npt.ArrayLike, repeats: npt.ArrayLike) -> Float64s:
    """Share of the variance of averaged responses that is signal.

    Parameters
    ----------
    ncsnr : (n_vertices,) float
        Noise-ceiling signal-to-noise ratio of a single trial, not negative.
    repeats : (n_images,) int, or int
        Trials averaged per image, by the design: one number stands for all images.

    Returns
    -------
    (n_vertices,) float64
        ``ncsnr**2 / (ncsnr**2 + mean(1 / repeats))``, 0 to 1.

    Raises
    ------
    InvalidParameterError
        If a repeat count is not positive, or there is none.

    References
    ----------
    Allen et al. (2022), Methods, "Noise ceiling estimation",
    https://doi.org/10.1038/s41593-021-00962-x

    Examples
    --------
    >>> noise_ceiling([0.0, 1.0], 3)
    array([0.  , 0.75])
    """
    counts = np.asarray(repeats, dtype=np.float64)
    if counts.size == 0 or not (counts > 0).all():
        raise InvalidParameterError(
            "a noise ceiling needs at least one trial of every image",
            got="no image" if counts.size == 0 else f"a repeat count of {counts.min():g}",
            accepted="positive repeat counts",
        )
    with np.errstate(divide="ignore"):  # an ncsnr of 0 gives 1 / (1 + inf) = 0, as it should
        ceiling: Float64s = 1.0 / (1.0 + (1.0 / counts).mean() / np.square(ncsnr, dtype=np.float64))
    return ceiling


def explained_variance_percent(r2: npt.ArrayLike, ceiling: npt.ArrayLike) -> Float64s:
    """Variance explained, in percent of what the noise ceiling leaves to explain.

    Parameters
    ----------
    r2 : (n_vertices,) float
        Squared correlation of measured and predicted responses.
    ceiling : (n_vertices,) float
        Noise ceiling, 0 to 1.

    Returns
    -------
    (n_vertices,) float64
        At most 100, because an r2 above its ceiling is noise; NaN where the ceiling is 0.

    Examples
    --------
    >>> explained_variance_percent([0.2, 0.6, 0.01], [0.4, 0.5, 0.0])
    array([ 50., 100.,  nan])
    """
    r2, ceiling = np.broadcast_arrays(np.asarray(r2, np.float64), np.asarray(ceiling, np.float64))
    percent: Float64s = np.full(r2.shape, np.nan)
    np.divide(100.0 * r2, ceiling, out=percent, where=ceiling != 0)
    np.minimum(percent, 100.0, out=percent)
    return percent


@dataclass(frozen=True)
class AveragedTrials:
    """Responses averaged over repeats.

    Attributes
    ----------
    means : (n_images, n_vertices) float64
        Mean of the trials that exist; zero, the mean of z-scores, where none does.
    n_missing : (n_vertices,) int
        Trials that are NaN.
    """

    means: Float64s
    n_missing: Indices


def average_repeats(trials: Floats, image: Integers) -> AveragedTrials:
    """Average the trials of each image.

    Parameters
    ----------
    trials : (n_trials, n_vertices) float
        Single-trial responses, z-scored. NaN is a missing trial.
    image : (n_trials,) int
        Image of each trial, 0-based; every image up to the largest occurs.

    Returns
    -------
    AveragedTrials
        Noise ceilings take the repeats of the design all the same, missing or not.

    Raises
    ------
    InvalidParameterError
        If `image` does not fit `trials`, or an image has no trial.
    """
    order, starts, counts = _group(trials, image)
    means = np.empty((len(counts), trials.shape[1]))
    n_missing = np.empty(trials.shape[1], np.intp)
    for block in _vertex_blocks(trials.shape):
        x = trials[:, block][order].astype(np.float64)
        means[:, block], present = _fill_missing(x, starts, counts)
        n_missing[block] = len(image) - present.sum(axis=0)
    return AveragedTrials(means, n_missing)


# Repeats of which this share of the squares is noise are exact ones: subtracting their mean in
# float64 leaves up to 1e-16 of each, and responses in float32 that differ at all differ by 1e-7.
_NO_NOISE = 1e-20


def ncsnr_from_trials(trials: Floats, image: Integers) -> Float64s:
    """Noise-ceiling signal-to-noise ratio, estimated from z-scored single trials.

    The noise variance is that of the trials around their image's mean, pooled over images;
    what the total variance has beyond it is signal.

    Parameters
    ----------
    trials : (n_trials, n_vertices) float
        Single-trial responses, z-scored over the session. NaN is a missing trial: the estimate
        is that of a design without it.
    image : (n_trials,) int
        Image of each trial, 0-based; every image up to the largest occurs, and at least
        one occurs twice.

    Returns
    -------
    (n_vertices,) float64
        Standard deviation of the signal over that of the noise. NaN where there is no noise to
        divide by, or where missing trials leave no image with two.

    Raises
    ------
    InvalidParameterError
        If `image` does not fit `trials`, or no image is repeated.

    References
    ----------
    Gifford et al. (2025), NSD-synthetic, https://doi.org/10.48550/arXiv.2503.06286
    """
    order, starts, counts = _group(trials, image)
    if len(image) == len(counts):
        raise InvalidParameterError(
            "noise cannot be told from signal",
            got=f"one trial of each of {len(counts)} images",
            accepted="at least one image with two trials",
        )
    ncsnr: Float64s = np.full(trials.shape[1], np.nan)
    for block in _vertex_blocks(trials.shape):
        x = trials[:, block][order].astype(np.float64)
        means, present = _fill_missing(x, starts, counts)
        n_trials, n_images = present.sum(axis=0), np.count_nonzero(present, axis=0)
        x -= np.repeat(means, counts, axis=0)
        within = np.einsum("tv,tv->v", x, x)  # sums of squares: within images, and between
        means -= (present * means).sum(axis=0) / np.maximum(n_trials, 1)
        between = (present * means**2).sum(axis=0)
        within[within <= _NO_NOISE * (within + between)] = 0.0  # rounding alone
        # Without two trials of an image, `within` is 0, and the ratio undefined.
        noise_variance = within / np.maximum(n_trials - n_images, 1)
        total_variance = (within + between) / np.maximum(n_trials - 1, 1)
        signal_variance = np.maximum(total_variance - noise_variance, 0.0)
        np.divide(signal_variance, noise_variance, out=ncsnr[block], where=noise_variance != 0)
    return np.sqrt(ncsnr, out=ncsnr)


def _fill_missing(x: Float64s, starts: Indices, counts: Indices) -> tuple[Float64s, Indices]:
    """Put into missing trials, in place, the mean of their image's others, or zero.

    Returns those means (n_images, n_vertices), and how many trials of each image exist:
    (n_images, n_vertices), or (n_images, 1) where none is missing.
    """
    missing = np.isnan(x)
    if not missing.any():
        return np.add.reduceat(x, starts, axis=0) / counts[:, None], counts[:, None]
    present = counts[:, None] - np.add.reduceat(missing, starts, axis=0, dtype=np.intp)
    x[missing] = 0.0
    means = np.add.reduceat(x, starts, axis=0) / np.maximum(present, 1)
    x[missing] = np.repeat(means, counts, axis=0)[missing]
    return means, present


def _vertex_blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Cut the columns of a (n_rows, n_vertices) array into slices of bounded size."""
    n_rows, n_vertices = shape
    width = max(1, _BLOCK_BYTES // (8 * max(n_rows, 1)))
    return (slice(start, start + width) for start in range(0, n_vertices, width))


def _centred(x: Floats) -> Float64s:
    """Subtract each column's mean, in float64.

    The first row goes first: a constant column then gives exact zeros, which a rounded mean
    would not.
    """
    centred = x.astype(np.float64)
    centred -= centred[:1].copy()
    centred -= centred.sum(axis=0) / max(len(x), 1)
    return centred


def _group(trials: Floats, image: Integers) -> tuple[Indices, Indices, Indices]:
    """Order trials by image: the order, where each image starts in it, and its trials."""
    if trials.ndim != 2 or image.shape != trials.shape[:1] or len(image) == 0:
        raise InvalidParameterError(
            "trials and the images they show do not fit together",
            got=f"trials of shape {trials.shape}, images of shape {image.shape}",
            accepted="(n_trials, n_vertices) and (n_trials,), with at least one trial",
        )
    if image.min() < 0 or not (counts := np.bincount(image)).all():
        raise InvalidParameterError(
            "the images of the trials are not numbered from 0 without gaps",
            got=f"numbers {image.min()} to {image.max()}, {len(np.unique(image))} different",
            accepted="every number from 0 to the largest, at least once",
        )
    return np.argsort(image, kind="stable"), np.cumsum(counts) - counts, counts
