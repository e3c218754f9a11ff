"""The weights of one subject's encoding model: fitted parts, folded form, `.npy` file.

A model is fitted in three parts (scaler, principal components, one regression per
hemisphere) and used folded: scaler and components are affine, so together they are one
matrix and an offset::

    scores    = ((features - mean_) / scale_ - pca.mean_) @ components_.T
              = features @ projection.T + offset
    responses = scores @ coef.T + intercept
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from berg.errors import FileFormatError, InvalidParameterError
from berg.pickles.reading import load_dict
from berg.pickles.stored_array import read_array, read_blocks
from berg.pickles.writing import save_dict
from berg.weight_checks import AXES, WeightChecks, WeightSizes

__all__ = [
    "EncoderWeights",
    "PCAParams",
    "RegressionParams",
    "ScalerParams",
    "WeightSizes",
    "fold",
    "load_npy",
    "save_npy",
]

FloatArray = NDArray[np.floating[Any]]
RowIndices = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class ScalerParams:
    """Mean and standard deviation of every feature, under scikit-learn's names.

    Parameters
    ----------
    scale_, mean_, var_ : float64 array of shape (n_features,)
        Standard deviation (ddof 0; 1 for a constant feature), mean and variance.
    n_features_in_, n_samples_seen_ : int
        Number of features, and of training images.
    """

    scale_: FloatArray
    mean_: FloatArray
    var_: FloatArray
    n_features_in_: int
    n_samples_seen_: int


@dataclass(frozen=True)
class PCAParams:
    """Principal components of the standardised features, under scikit-learn's names.

    Parameters
    ----------
    components_ : float32 or float64 array of shape (n_components, n_features)
    mean_ : array of shape (n_features,)
        Mean of the standardised features; zero but for rounding.
    explained_variance_, explained_variance_ratio_, singular_values_ : (n_components,)
    n_components_, n_samples_, n_features_in_ : int
    noise_variance_ : float
    """

    components_: FloatArray
    mean_: FloatArray
    explained_variance_: FloatArray
    explained_variance_ratio_: FloatArray
    singular_values_: FloatArray
    n_components_: int
    n_samples_: int
    noise_variance_: float
    n_features_in_: int


@dataclass(frozen=True)
class RegressionParams:
    """Linear regression from scores to one hemisphere's vertices.

    Parameters
    ----------
    coef_ : float32 or float64 array of shape (n_vertices, n_components)
    intercept_ : array of shape (n_vertices,)
        Both in z-scored units of response.
    n_features_in_ : int
        Number of components.
    """

    coef_: FloatArray
    intercept_: FloatArray
    n_features_in_: int


@dataclass(frozen=True)
class EncoderWeights:
    """What inference needs, folded, float32: ``scores = features @ projection.T + offset``.

    Parameters
    ----------
    projection : float32 array of shape (n_components, n_features)
        C order. May be a copy-on-write map of a file.
    offset : float32 array of shape (n_components,)
        Added to the projected features.
    lh_coef, rh_coef : float32 array of shape (n_selected_vertices, n_components)
        Of the selected vertices, in C or Fortran order, whichever the file has.
    lh_intercept, rh_intercept : float32 array of shape (n_selected_vertices,)
        ``responses = scores @ coef.T + intercept``, in z-scored units.
    channels_last : bool
        Whether the features, the columns of `projection`, are in the order in which the
        network computes them: channel last within each layer. In the `.npy`, as in training,
        they are channel first.
    """

    projection: NDArray[np.float32]
    offset: NDArray[np.float32]
    lh_coef: NDArray[np.float32]
    lh_intercept: NDArray[np.float32]
    rh_coef: NDArray[np.float32]
    rh_intercept: NDArray[np.float32]
    channels_last: bool = False


def fold(
    scaler: ScalerParams, pca: PCAParams, lh: RegressionParams, rh: RegressionParams
) -> EncoderWeights:
    """Fold fitted parts into what inference needs.

    Parameters
    ----------
    scaler : ScalerParams
    pca : PCAParams
    lh, rh : RegressionParams

    Returns
    -------
    EncoderWeights
        Of all vertices.

    Raises
    ------
    InvalidParameterError
        If shapes disagree, or a value is NaN or infinite.
    """
    parts = _parts(scaler, pca, lh, rh)
    checks = WeightChecks("The fitted model", InvalidParameterError)
    checks.check_parts(parts)
    return _fold(parts, checks)


def save_npy(
    path: str | os.PathLike[str],
    scaler: ScalerParams,
    pca: PCAParams,
    lh: RegressionParams,
    rh: RegressionParams,
) -> None:
    """Write `weights_subject-XX.npy` in the existing toolkit's form, whole or not at all.

    Parameters
    ----------
    path : path-like
    scaler : ScalerParams
    pca : PCAParams
    lh, rh : RegressionParams

    Raises
    ------
    InvalidParameterError
        If shapes disagree, or a value is NaN or infinite. Nothing is written.
    """
    parts = _parts(scaler, pca, lh, rh)
    checks = WeightChecks("The fitted model", InvalidParameterError)
    checks.check_parts(parts)
    for part, name in AXES:
        checks.check_finite(f"{part} {name}", parts[part][name])
    save_dict(path, parts)


def load_npy(
    path: str | os.PathLike[str],
    *,
    lh_rows: RowIndices | None = None,
    rh_rows: RowIndices | None = None,
    expected: WeightSizes | None = None,
) -> EncoderWeights:
    """Read the selected vertices' weights from `weights_subject-XX.npy`, and fold them.

    Parameters
    ----------
    path : path-like
    lh_rows, rh_rows : int array of shape (n_selected_vertices,), optional
        Vertices to read, in the order of the result. None reads all.
    expected : WeightSizes, optional
        The sizes of the model's card. None takes the file's own.

    Returns
    -------
    EncoderWeights

    Raises
    ------
    UnsafePickleError
        If the file asks for more than data need (see `berg.pickles.reading`).
    FileFormatError
        If the file is truncated, lacks a part, is another model's, or has an array of the
        wrong shape; or if a value that is read is NaN or infinite.
    """
    checks = WeightChecks(os.fspath(path), FileFormatError)
    parts = load_dict(path)
    checks.check_parts(parts, expected)
    return _fold(parts, checks, lh_rows, rh_rows)


def _parts(
    scaler: ScalerParams, pca: PCAParams, lh: RegressionParams, rh: RegressionParams
) -> dict[str, dict[str, Any]]:
    """Return the dict that the file holds."""
    return {
        "scaler_param": vars(scaler),
        "pca_param": vars(pca),
        "lh_reg_param": vars(lh),
        "rh_reg_param": vars(rh),
    }


def _fold(
    parts: dict[str, dict[str, Any]],
    checks: WeightChecks,
    lh_rows: RowIndices | None = None,
    rh_rows: RowIndices | None = None,
) -> EncoderWeights:
    def read(part: str, name: str, dtype: type, rows: RowIndices | None = None) -> NDArray[Any]:
        values = read_array(parts[part][name], rows, dtype)
        checks.check_finite(f"{part} {name}", values, rows)
        return values

    scale = read("scaler_param", "scale_", np.float64)
    checks.check_positive("scaler_param scale_", scale)
    mean = read("scaler_param", "mean_", np.float64)
    pca_mean = read("pca_param", "mean_", np.float64)
    components = parts["pca_param"]["components_"]
    projection = np.empty(components.shape, np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # looked for just below
        for index, block in read_blocks(components):
            # Divided in float64, as scales go down to 1e-7, and rounded once. It costs 0.07 s
            # for 250 x 205,672; a float32 product would be off by one unit and save 0.02 s.
            np.divide(block, scale[index[1]], out=projection[index], casting="same_kind")
        # The features that have all scores zero. With the offset taken from the projection as
        # rounded, its rounding errors weigh on (features - zero), not on the features' size.
        zero = mean + scale * pca_mean
        # einsum sums in float64 without a float64 copy, and without the threads of BLAS, which
        # wait for each other on a busy machine (0.07 s, against 0.03 to 3 s).
        offset = -np.einsum("kf,f->k", projection, zero)
    if not np.isfinite(offset).all():  # as it is wherever the projection is not finite
        checks.check_finite("pca_param components_", read_array(components))
        checks.check_finite("pca_param components_ / scaler_param scale_", projection)
    return EncoderWeights(
        projection=projection,
        offset=offset.astype(np.float32),
        lh_coef=read("lh_reg_param", "coef_", np.float32, lh_rows),
        lh_intercept=read("lh_reg_param", "intercept_", np.float32, lh_rows),
        rh_coef=read("rh_reg_param", "coef_", np.float32, rh_rows),
        rh_intercept=read("rh_reg_param", "intercept_", np.float32, rh_rows),
    )
