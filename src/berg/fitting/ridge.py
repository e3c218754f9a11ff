"""Ridge regression with a penalty of its own for each vertex, chosen on validation images.

All is computed from sums over images: neither training nor validation responses are kept.
With X the centred training scores, XᵀX = Q diag(l) Qᵀ, and w the slopes of plain regression,
the slopes with penalty a are Q diag(l / (l + a)) Qᵀ w, and the intercept is that of plain
regression: the mean training response b at the mean score. With V the validation scores less
the training mean, and y the validation responses, the squared error is::

    |V w + b - y|² = wᵀ VᵀV w + 2 w·(b Vᵀ1 - Vᵀy) + terms without w
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.linalg

from berg.errors import InvalidParameterError
from berg.fitting.feature_blocks import Floats
from berg.fitting.regression import check_products, regression_from_products
from berg.weights import RegressionParams

Float32s = npt.NDArray[np.float32]

DEFAULT_PENALTIES = (0.0, *(10 ** (exponent / 2) for exponent in range(-8, 11)))
"""Penalties to choose from, relative to the mean eigenvalue of XᵀX: 0, which is plain
regression, and from 1e-4, which changes nothing that matters, to 1e5, which leaves little of
any slope, half a decade apart."""

_BLOCK_WIDTH = 4096  # vertices at once: 4 MB of float32 for 250 components


def validation_rows(val_scores: Floats, scores: Floats) -> Float32s:
    """Return the weights with which validation images' responses enter the choice of penalty.

    Parameters
    ----------
    val_scores : (n_val, n_components) float
        Scores of the validation images.
    scores : (n_images, n_components) float
        Scores of the training images.

    Returns
    -------
    (n_val, n_components + 1) float32
        The scores, less the mean training score, and a column of ones. Their products with
        the responses are what `fit_ridge` takes.
    """
    rows = np.ones((len(val_scores), val_scores.shape[1] + 1), dtype=np.float32)
    rows[:, :-1] = val_scores - scores.mean(axis=0, dtype=np.float64)
    return rows


def fit_ridge(
    products: Floats,
    scores: Floats,
    val_products: Floats,
    val_scores: Floats,
    penalties: npt.ArrayLike = DEFAULT_PENALTIES,
    *,
    n_present: npt.NDArray[np.integer] | None = None,
) -> tuple[RegressionParams, Float32s]:
    """Fit ridge regression, with the penalty that predicts the validation images best.

    Parameters
    ----------
    products : (n_components + 1, n_vertices) float
        ``regression_rows(scores).T @ responses`` to the training images.
    scores : (n_images, n_components) float
        Scores of the training images.
    val_products : (n_components + 1, n_vertices) float
        ``validation_rows(val_scores, scores).T @ responses`` to the validation images.
    val_scores : (n_val, n_components) float
        Scores of the validation images.
    penalties : (n_penalties,) float
        To choose from, not negative, relative to the mean eigenvalue of the centred training
        scores' inner products. Of equally good ones the first is taken.
    n_present : (n_vertices,) int, optional
        Validation images whose response exists; in `val_products` the others count as zeros.
        The products are taken as that part of the sums over all images, so that a vertex is
        not shrunk for what was not measured. Where it is 0 the penalty is 0. None: all exist.

    Returns
    -------
    regression : RegressionParams
        In float32.
    penalty : (n_vertices,) float32
        The chosen penalty, as scikit-learn's ``Ridge`` takes it: relative to nothing. NaN for
        a vertex whose products hold NaN.

    Raises
    ------
    InvalidParameterError
        If shapes do not fit together, there are no validation images, more of them exist than
        there are, or the penalties are not finite numbers from 0.
    """
    grid = np.asarray(penalties, dtype=np.float64)
    check_products(products, scores)
    check_products(val_products, val_scores)
    _check_choice(products, val_products, val_scores, grid)
    n_val, n_vertices = len(val_scores), products.shape[1]
    present = np.full(n_vertices, n_val) if n_present is None else n_present
    if present.shape != (n_vertices,) or ((present < 0) | (present > n_val)).any():
        raise InvalidParameterError(
            "not the numbers of validation images that exist",
            got=f"shape {present.shape}, up to {present.max(initial=0)}",
            accepted=f"shape {(n_vertices,)}, 0 to {n_val}",
        )
    whole = n_val / np.maximum(present, 1)
    mean = scores.mean(axis=0, dtype=np.float64)
    centred = scores - mean
    values, vectors = scipy.linalg.eigh(centred.T @ centred)
    values = np.maximum(values, 0.0)
    absolute = np.append(grid * values.mean(), 0.0)  # last, what is not chosen: no penalty
    shrink = np.zeros((len(absolute), len(values)))  # and in directions without scores no slopes
    np.divide(values, values + absolute[:, None], out=shrink, where=values > 0)

    val = (val_scores - mean) @ vectors
    val_gram, val_sum = (val.T @ val).astype(np.float32), val.sum(axis=0)[:, None]
    shrink, basis = shrink.astype(np.float32), vectors.astype(np.float32)
    slopes = np.empty_like(products, dtype=np.float32)
    penalty = np.empty(n_vertices, dtype=np.float32)
    for start in range(0, n_vertices, _BLOCK_WIDTH):
        block = slice(start, start + _BLOCK_WIDTH)
        w = basis.T @ products[:-1, block].astype(np.float32, copy=False)
        val_product = val_products[:-1, block] * whole[block]
        linear = products[-1, block] * val_sum - vectors.T @ val_product
        error = shrink @ (2 * linear.astype(np.float32) * w)
        for shrunk, total in zip(shrink, error, strict=True):
            tried = shrunk[:, None] * w
            total += np.einsum("kv,kv->v", tried, val_gram @ tried)
        best = np.where(present[block] > 0, error[:-1].argmin(axis=0), len(grid))
        slopes[:-1, block] = basis @ (shrink[best].T * w)
        penalty[block] = np.where(np.isnan(error[0]), np.nan, absolute[best])
    slopes[-1] = products[-1]
    return regression_from_products(slopes, scores), penalty


def _check_choice(
    products: Floats, val_products: Floats, val_scores: Floats, grid: npt.NDArray[np.float64]
) -> None:
    if products.shape != val_products.shape:
        raise InvalidParameterError(
            "products of training and validation images do not fit together",
            got=f"shapes {products.shape} and {val_products.shape}",
            accepted="the same shape",
        )
    if len(val_scores) == 0:
        raise InvalidParameterError(
            "a penalty cannot be chosen without validation images",
            got="no validation images",
            accepted="at least one",
            do="use more sessions, or plain regression",
        )
    if grid.ndim != 1 or len(grid) == 0 or not np.isfinite(grid).all() or (grid < 0).any():
        raise InvalidParameterError(
            "not a list of penalties", got=str(grid), accepted="finite numbers, not negative"
        )
