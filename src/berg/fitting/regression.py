"""Linear regression from scores to responses, all vertices at once.

Least squares is linear in the responses: with one row of numbers per image, made of the scores
alone, slopes and mean response are ``rows.T @ responses``. That product can be summed up over
trials as they are read, and no matrix of responses is ever needed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from berg.errors import InvalidParameterError
from berg.fitting.feature_blocks import Floats, array_blocks
from berg.weights import RegressionParams


def fit_regression(scores: Floats, responses: Floats) -> RegressionParams:
    """Ordinary least squares with intercept.

    Parameters
    ----------
    scores : (n_images, n_components) float
        Scores of the training images.
    responses : (n_images, n_vertices) float
        Measured responses, z-scored. A vertex with a NaN gets NaN coefficients and intercept,
        and no other vertex does. (`average_repeats` leaves no NaN; `save_npy` refuses them.)

    Returns
    -------
    RegressionParams
        In float32; of several solutions (dependent scores) the one of smallest norm.

    Raises
    ------
    InvalidParameterError
        If the shapes do not fit, or there are not more images than components.
    """
    if scores.ndim != 2 or responses.ndim != 2 or len(scores) != len(responses):
        raise InvalidParameterError(
            "scores and responses do not fit together",
            got=f"shapes {scores.shape} and {responses.shape}",
            accepted="(n_images, n_components) and (n_images, n_vertices)",
        )
    rows = regression_rows(scores, dtype=np.float64)
    products = np.empty((rows.shape[1], responses.shape[1]))
    for block in array_blocks(responses):
        products[:, block] = rows.T @ responses[:, block].astype(np.float64)
    return regression_from_products(products, scores)


def regression_rows(
    scores: Floats, *, dtype: npt.DTypeLike = np.float32
) -> npt.NDArray[np.floating]:
    """Return the weights with which each image's responses enter the regression.

    Parameters
    ----------
    scores : (n_images, n_components) float
        Scores of the training images.
    dtype : float32 or float64
        Of the result; it is computed in float64.

    Returns
    -------
    (n_images, n_components + 1) of `dtype`
        ``rows.T @ responses`` are the least-squares slopes and, last, the mean response.

    Raises
    ------
    InvalidParameterError
        If there are not more images than components.
    """
    n_images, n_components = scores.shape
    if n_images <= n_components:
        raise InvalidParameterError(
            "too few images for a regression",
            got=f"{n_images} images for {n_components} components",
            accepted=f"at least {n_components + 1} images",
            do="fit with more images, or keep fewer components",
        )
    rows = np.full((n_images, n_components + 1), 1 / n_images, dtype=dtype)
    rows[:, :-1] = np.linalg.pinv(scores - scores.mean(axis=0, dtype=np.float64)).T
    return rows


def regression_from_products(products: Floats, scores: Floats) -> RegressionParams:
    """Regression of what `regression_rows` and the responses gave.

    Parameters
    ----------
    products : (n_components + 1, n_vertices) float
        ``regression_rows(scores).T @ responses``.
    scores : (n_images, n_components) float
        Scores of the training images.

    Returns
    -------
    RegressionParams
        In float32.

    Raises
    ------
    InvalidParameterError
        If the products are not of as many components as the scores.
    """
    check_products(products, scores)
    slopes, mean_response = products[:-1], products[-1]
    # einsum multiplies in float64 without a float64 copy of the slopes.
    offset = np.einsum("kv,k->v", slopes, scores.mean(axis=0, dtype=np.float64))
    return RegressionParams(
        coef_=np.ascontiguousarray(slopes.T, dtype=np.float32),
        intercept_=(mean_response - offset).astype(np.float32),
        n_features_in_=scores.shape[1],
    )


def check_products(products: Floats, scores: Floats) -> None:
    """Raise `InvalidParameterError` unless there is a product for every column, and one more.

    Parameters
    ----------
    products : (n_components + 1, n_vertices) float
    scores : (n_images, n_components) float
    """
    if products.ndim != 2 or scores.ndim != 2 or len(products) != scores.shape[1] + 1:
        raise InvalidParameterError(
            "products and scores do not fit together",
            got=f"shapes {products.shape} and {scores.shape}",
            accepted="(n_components + 1, n_vertices) and (n_images, n_components)",
        )
