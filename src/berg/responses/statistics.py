"""Statistics of responses from those of their scores, without the responses.

A response is ``coef @ scores + intercept``. With m and S the mean and the covariance of the scores
over images, the mean response of a vertex is ``coef @ m + intercept`` and its variance
``coef @ S @ coef``. All sums are in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from berg.responses.readout import Hemisphere, Readout
from berg.responses.rows import Scores, blocks

# Images whose scores are converted to float64 together: 4 MB for 250 components, half of the
# time that 64 MB take.
_IMAGE_BLOCK = 2048


@dataclass(frozen=True)
class Moments:
    """Mean and scatter of scores over images.

    Parameters
    ----------
    n_images : int
    mean : numpy.ndarray of float64, shape (n_components,)
        NaN if there are no images.
    scatter : numpy.ndarray of float64, shape (n_components, n_components)
        Sum over images of the outer product of the deviation from the mean.
    """

    n_images: int
    mean: NDArray[np.float64]
    scatter: NDArray[np.float64]


def mean_scores(scores: Scores) -> NDArray[np.float64]:
    """Return the mean over images.

    Parameters
    ----------
    scores : numpy.ndarray or LazyScores of float32, shape (n_images, n_components)

    Returns
    -------
    numpy.ndarray of float64, shape (n_components,)
        NaN if there are no images.
    """
    n_images, n_components = scores.shape
    if not n_images:
        return np.full(n_components, np.nan)
    total = np.zeros(n_components)
    for part in _parts(scores):
        total += part.sum(axis=0, dtype=np.float64)
    return total / n_images


def moments(scores: Scores) -> Moments:
    """Return mean and scatter in one pass.

    Those of parts are merged by the formula of Chan et al., which does not subtract large numbers
    from each other as ``mean(x**2) - mean(x)**2`` does.

    Parameters
    ----------
    scores : numpy.ndarray or LazyScores of float32, shape (n_images, n_components)

    Returns
    -------
    Moments

    References
    ----------
    Chan, Golub & LeVeque (1983), Algorithms for computing the sample variance,
    https://doi.org/10.1080/00031305.1983.10483115
    """
    n_components = scores.shape[1]
    n_seen, mean = 0, np.zeros(n_components)
    scatter = np.zeros((n_components, n_components))
    for part in _parts(scores):
        part_mean = part.mean(axis=0, dtype=np.float64)
        deviations = part - part_mean
        n_both = n_seen + len(part)
        step = part_mean - mean
        scatter += deviations.T @ deviations
        scatter += np.outer(step, step) * (n_seen * len(part) / n_both)
        mean = mean + step * (len(part) / n_both)
        n_seen = n_both
    return Moments(n_seen, mean if n_seen else np.full(n_components, np.nan), scatter)


def _parts(scores: Scores) -> Iterator[NDArray[np.float32]]:
    for _, block in blocks(scores):
        for start in range(0, len(block), _IMAGE_BLOCK):
            yield block[start : start + _IMAGE_BLOCK]


def response_to(
    readout: Readout, hemi: Hemisphere, scores: NDArray[np.float64], *, intercept: bool = True
) -> NDArray[np.float32]:
    """Return the response of every vertex to one image or mean of images.

    Parameters
    ----------
    readout : Readout
    hemi : {"lh", "rh"}
    scores : numpy.ndarray of float64, shape (n_components,)
    intercept : bool, default True
        False for a difference of scores, of which the response has no intercept.

    Returns
    -------
    numpy.ndarray of float32, shape (n_vertices,)
        In z-scored units.
    """
    return _concatenate(
        coef @ scores + (offset if intercept else 0.0) for coef, offset in readout.blocks(hemi)
    )


def response_variance(
    readout: Readout, hemi: Hemisphere, of: Moments, ddof: int
) -> NDArray[np.float32]:
    """Return the variance of every vertex's response over images.

    Parameters
    ----------
    readout : Readout
    hemi : {"lh", "rh"}
    of : Moments
    ddof : int
        The divisor is ``n_images - ddof``.

    Returns
    -------
    numpy.ndarray of float32, shape (n_vertices,)
        Never negative; NaN if the divisor is not positive.
    """
    divisor = of.n_images - ddof
    covariance = of.scatter / divisor if divisor > 0 else np.full_like(of.scatter, np.nan)
    # Rounding alone can make the quadratic form of a vertex that hardly varies negative.
    return _concatenate(
        np.maximum(np.einsum("vk,vk->v", coef @ covariance, coef), 0)
        for coef, _ in readout.blocks(hemi)
    )


def mean_responses(readout: Readout, scores: Scores) -> Iterator[NDArray[np.float32]]:
    """Give the mean response over all vertices of both hemispheres, a block of images at a time.

    Parameters
    ----------
    readout : Readout
    scores : numpy.ndarray or LazyScores of float32, shape (n_images, n_components)

    Yields
    ------
    numpy.ndarray of float32, shape (n_block,)
        In z-scored units; NaN if there are no vertices.
    """
    coef, intercept = readout.mean_vertex()
    for part in _parts(scores):
        yield (part @ coef + intercept).astype(np.float32)


def _concatenate(parts: Iterator[NDArray[np.float64]]) -> NDArray[np.float32]:
    return np.concatenate([np.empty(0, np.float32), *(part.astype(np.float32) for part in parts)])
