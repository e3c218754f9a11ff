"""Dissimilarities between images, from their scores: the responses are never computed.

Responses are ``X @ [scores, 1]`` with X = [coef, intercept], one row a vertex. With the Gram
matrix ``X.T @ X = L @ L.T``, which is small, distances between responses are those between
``[scores, 1] @ L``: 251 numbers an image instead of one a vertex. For the correlation X is centred
over vertices first; for the Euclidean distance, a difference, the intercept cancels.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from berg.errors import InvalidParameterError, did_you_mean
from berg.responses.memory import allocate
from berg.responses.readout import Gram
from berg.responses.rows import Scores, blocks

Metric = Literal["correlation", "euclidean"]
METRICS: tuple[Metric, ...] = get_args(Metric)

# Rows of the matrix that are worked on together, so that nothing else takes its size, and pairs
# of images whose patterns are: 8 MB.
_ROW_BLOCK, _PAIR_BLOCK = 64, 4096

# Of two patterns that are this much closer than they are long (squared), the distance is computed
# anew, from their difference: it has lost up to half of its digits.
_CLOSE = 1e-6

# Images whose median stands for that of all.
_SAMPLE = 256

Matrix = NDArray[np.float64]


def rdm(gram: Gram, scores: Scores, metric: Metric = "correlation") -> Matrix:
    """Return the dissimilarity of the responses to every two images.

    Parameters
    ----------
    gram : Gram
        Of the vertices that the responses are patterns over; both hemispheres are one pattern.
    scores : numpy.ndarray or LazyScores of float32, shape (n_images, n_components)
    metric : {"correlation", "euclidean"}
        1 minus Pearson's correlation over vertices, or the Euclidean distance in z-scored units.

    Returns
    -------
    numpy.ndarray of float64, shape (n_images, n_images)
        Symmetric, never negative, zero on the diagonal. A row and column is NaN where an image
        has no scores; for the correlation also where its responses do not vary over vertices, as
        those of a single vertex: such a pattern has no correlation, not with itself either.

    Raises
    ------
    InvalidParameterError
        If there is no such metric.
    ResourceError
        If the matrix does not fit into memory.

    References
    ----------
    Kriegeskorte, Mur & Bandettini (2008), https://doi.org/10.3389/neuro.06.004.2008
    """
    if metric not in METRICS:
        raise InvalidParameterError(
            f"there is no metric {metric!r}.{did_you_mean(metric, METRICS)}",
            got=f"metric={metric!r}",
            accepted=", ".join(map(repr, METRICS)),
            do='rdm(metric="correlation") is 1 minus Pearson\'s correlation',
        )
    n_images = scores.shape[0]
    distances = allocate(
        (n_images, n_images),
        np.float64,
        f"the distances between {n_images} images",
        "select fewer images",
    )
    if metric == "correlation":
        return _correlation_distances(gram, scores, distances)
    return _euclidean_distances(gram, scores, distances)


def _correlation_distances(gram: Gram, scores: Scores, out: Matrix) -> Matrix:
    mean = gram.total / max(gram.n_vertices, 1)
    root = _square_root(gram.products - np.outer(gram.total, mean))
    extended = _extended(scores, with_one=True)
    patterns = extended @ root
    squared = np.einsum("ik,ik->i", patterns, patterns)
    # A pattern without variance is left with what rounding leaves a singular matrix: the limit of
    # `numpy.linalg.matrix_rank`. It is a standard deviation 2e-7 as large as responses of such
    # scores can be, less than float32 resolves.
    rounding = len(mean) * np.finfo(np.float64).eps * np.trace(gram.products)
    defined = squared > rounding * np.einsum("ik,ik->i", extended, extended)
    patterns /= np.sqrt(np.where(defined, squared, np.nan))[:, np.newaxis]
    np.matmul(patterns, patterns.T, out=out)
    np.subtract(1.0, out, out=out)
    np.clip(out, 0.0, 2.0, out=out)
    np.fill_diagonal(out, np.where(defined, 0.0, np.nan))
    return out


def _euclidean_distances(gram: Gram, scores: Scores, out: Matrix) -> Matrix:
    root = _square_root(gram.products[:-1, :-1])
    extended = _extended(scores, with_one=False)
    # Distances are differences, of which small numbers lose fewer digits: the middle of the images
    # is taken off. A few extreme ones, silent features at work, would move their mean far away.
    defined = np.isfinite(extended).all(axis=1)
    if defined.any():
        rows = np.flatnonzero(defined)
        extended -= np.median(extended[rows[:: -(-len(rows) // _SAMPLE)]], axis=0)
    patterns = extended @ root
    np.matmul(patterns, patterns.T, out=out)
    squared = np.diagonal(out).copy()
    for start in range(0, len(out), _ROW_BLOCK):
        stop = start + _ROW_BLOCK
        block = out[start:stop, start:]  # from the diagonal on: below it is the same
        both = squared[start:stop, np.newaxis] + squared[start:]
        block *= -2.0
        block += both
        both *= _CLOSE
        first, second = np.nonzero(block < both)
        np.maximum(block, 0.0, out=block)
        np.sqrt(block, out=block)
        out[stop:, start:stop] = block[:, _ROW_BLOCK:].T
        pairs = first < second  # each once, and no image with itself
        _recompute(out, patterns, first[pairs] + start, second[pairs] + start)
    np.fill_diagonal(out, np.where(defined, 0.0, np.nan))
    return out


def _recompute(
    out: Matrix, patterns: Matrix, first: NDArray[np.int64], second: NDArray[np.int64]
) -> None:
    """Compute the distances of some pairs of patterns from their differences."""
    for start in range(0, len(first), _PAIR_BLOCK):
        i, j = first[start : start + _PAIR_BLOCK], second[start : start + _PAIR_BLOCK]
        difference = patterns[i] - patterns[j]
        out[i, j] = out[j, i] = np.sqrt(np.einsum("pk,pk->p", difference, difference))


def _square_root(gram: Matrix) -> Matrix:
    """Return L with ``L @ L.T`` the matrix."""
    try:
        root: Matrix = np.asarray(np.linalg.cholesky(gram), np.float64)
    except np.linalg.LinAlgError:  # singular: no more vertices than components
        eigenvalues, vectors = np.linalg.eigh(gram)
        root = vectors * np.sqrt(np.maximum(eigenvalues, 0))
    return root


def _extended(scores: Scores, *, with_one: bool) -> Matrix:
    """Return scores in float64, with a column of ones for the intercept if wanted."""
    n_images, n_components = scores.shape
    extended = np.ones((n_images, n_components + with_one))
    for start, block in blocks(scores):
        extended[start : start + len(block), :n_components] = block
    return extended
