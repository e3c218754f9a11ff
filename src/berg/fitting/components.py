"""Fit scaler and principal components, in two passes over the features.

The features are one matrix (n_images, n_features), 205,672 wide for AlexNet and for all images
of a subject 7 GB large. With far fewer images than features, the singular vectors come from
the small matrix of the images' inner products (Gram matrix), summed over blocks of features.
The first pass standardises each block and adds its products; the second makes the components.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import get_blas_funcs
from tqdm import tqdm

from berg.errors import InvalidParameterError
from berg.fitting.eigenvectors import leading_eigenvectors
from berg.fitting.feature_blocks import (
    FeatureMatrix,
    Floats,
    check_features,
    column_blocks,
)
from berg.weights import PCAParams, ScalerParams

Float64s = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]

_CHUNK_BYTES = 2**20  # rows of a block in float64, worked on while they are in the cache
_STRIP = 256  # rows of the Gram matrix


@dataclass(frozen=True)
class FittedComponents:
    """Scaler and principal components of the training images.

    Parameters
    ----------
    scaler : ScalerParams
    pca : PCAParams
    scores : (n_images, n_components) float32
        Scores of the training images themselves; their columns have mean zero.
    """

    scaler: ScalerParams
    pca: PCAParams
    scores: Float32s


def fit_components(
    features: FeatureMatrix,
    n_components: int = 250,
    *,
    dtype: npt.DTypeLike = np.float32,
    show_progress: bool = False,
) -> FittedComponents:
    """Standardise features and find their exact principal components.

    Parameters
    ----------
    features : (n_images, n_features) matrix of float32 or float64
        Features of the training images: an array, or a store on disk that is read twice, a
        block of columns at a time.
    n_components : int
        Components to keep, largest variance first.
    dtype : float32 or float64
        Of the products of one block. Mean and standard deviation, sums over blocks and
        eigenvectors are in float64 in any case. With float32, which is four times as fast,
        explained variances are within 1e-6 of float64's.
    show_progress : bool
        Whether to show progress bars.

    Returns
    -------
    FittedComponents
        What scikit-learn's ``StandardScaler`` and ``PCA(svd_solver="full")`` give in float64,
        with their rule for constant features (scale 1, also of those that are constant but
        for rounding) and signs (of each component the largest entry is positive);
        `components_` are float32. `pca.mean_` is zero, as the scaler takes the mean away.

    Raises
    ------
    InvalidParameterError
        If there are fewer than two images, a feature is NaN or infinite, or the images span
        fewer than `n_components` dimensions.

    References
    ----------
    Chan, Golub & LeVeque (1983), "Algorithms for computing the sample variance", The
    American Statistician 37, https://doi.org/10.2307/2683386: the variance in two passes,
    and the bound on its rounding error below which scikit-learn calls a feature constant.
    """
    n_images, n_features = check_features(features)
    _check_rank(n_components, n_images, min(n_images - 1, n_features))
    scaler, gram = _scaler_and_gram(features, np.dtype(dtype), show_progress)
    _centre(gram)
    trace = float(np.trace(gram))
    values, vectors = leading_eigenvectors(gram, n_components)
    del gram
    # Products are rounded by up to eps times their size, and the norm of the matrix of their
    # sizes is the trace. An eigenvalue below ten times that is rounding, not a direction.
    rank = int(np.count_nonzero(values > 10 * np.finfo(dtype).eps * trace))
    _check_rank(n_components, n_images, rank)
    singular_values = np.sqrt(values)
    components = _components(
        features, scaler, (vectors / singular_values).T.astype(dtype), show_progress
    )
    signs = np.array([np.sign(row[np.argmax(np.abs(row))]) for row in components])
    components *= signs[:, None]
    n_rest = min(n_images, n_features) - n_components  # scikit-learn counts empty ones too
    rest = max(trace - float(values.sum()), 0.0) / (n_images - 1)
    pca = PCAParams(
        components_=components,
        mean_=np.zeros(n_features),
        explained_variance_=values / (n_images - 1),
        explained_variance_ratio_=values / trace,
        singular_values_=singular_values,
        n_components_=n_components,
        n_samples_=n_images,
        noise_variance_=rest / n_rest if n_rest else 0.0,
        n_features_in_=n_features,
    )
    return FittedComponents(scaler, pca, (vectors * (singular_values * signs)).astype(np.float32))


def project(features: FeatureMatrix, scaler: ScalerParams, pca: PCAParams) -> Float64s:
    """Scores of images: their standardised features on the principal components.

    Parameters
    ----------
    features : (n_images, n_features) matrix of float32 or float64
        An array, or a store on disk.
    scaler : ScalerParams
    pca : PCAParams

    Returns
    -------
    (n_images, n_components) float64
        Products are in float32, as in inference; sums over blocks in float64.

    Raises
    ------
    InvalidParameterError
        If the features are not as many as those of the PCA.
    """
    if len(features.shape) != 2 or features.shape[1] != pca.n_features_in_:
        raise InvalidParameterError(
            "the features are not those of this PCA",
            got=f"shape {features.shape}",
            accepted=f"(n_images, {pca.n_features_in_})",
        )
    scores = np.zeros((features.shape[0], pca.n_components_))
    for columns, x, z in _read_blocks(features, np.dtype(np.float32), "Scores", False):
        _standardise(x, scaler, columns, out=z)
        z -= pca.mean_[columns].astype(np.float32)
        scores += z @ pca.components_[:, columns].T.astype(np.float32, copy=False)
    return scores


def _check_rank(n_components: int, n_images: int, rank: int) -> None:
    if not 1 <= n_components <= rank:
        raise InvalidParameterError(
            "the images do not span that many principal components",
            got=f"n_components={n_components}, {n_images} images",
            accepted=f"1 to {rank}",
            do="fit with more images that differ, or keep fewer components",
        )


def _scaler_and_gram(
    features: FeatureMatrix, dtype: np.dtype[Any], show_progress: bool
) -> tuple[ScalerParams, Float64s]:
    """Take the first pass: statistics, and inner products of the standardised images.

    Returns
    -------
    scaler : ScalerParams
    gram : (n_images, n_images) float64
        Its lower triangle; above it stands nothing of use.
    """
    n_images, n_features = features.shape
    mean, var, scale = np.empty((3, n_features))
    scaler = ScalerParams(scale, mean, var, n_features, n_images)
    gram = np.zeros((n_images, n_images))
    products = np.zeros((n_images, n_images), dtype=dtype, order="F")
    syrk = get_blas_funcs("syrk", dtype=dtype)
    for columns, x, z in _read_blocks(features, dtype, "Inner products", show_progress):
        mean[columns], var[columns] = _mean_and_variance(x, columns.start)
        scale[columns] = _scale(mean[columns], var[columns], n_images)
        _standardise(x, scaler, columns, out=z)
        # One triangle alone: NumPy's own `z @ z.T` takes 40 % longer, to fill in the other.
        products = syrk(1.0, z.T, beta=0.0, c=products, trans=1, overwrite_c=1)
        for start in range(0, n_images, _STRIP):
            strip = np.s_[start : start + _STRIP, : start + _STRIP]
            gram[strip] += products.T[strip]
    return scaler, gram


def _components(
    features: FeatureMatrix, scaler: ScalerParams, weights: Floats, show_progress: bool
) -> Float32s:
    """Take the second pass: components are weighted sums of the standardised images."""
    components = np.empty((len(weights), features.shape[1]), dtype=np.float32)
    for columns, x, z in _read_blocks(features, weights.dtype, "Components", show_progress):
        _standardise(x, scaler, columns, out=z)
        components[:, columns] = weights @ z
    return components


def _read_blocks(
    features: FeatureMatrix, dtype: np.dtype[Any], stage: str, show_progress: bool
) -> Iterator[tuple[slice, Floats, Floats]]:
    """Give blocks of columns one after the other, each with room for its standardised form."""
    n_images, n_features = features.shape
    blocks = column_blocks(features)
    room = np.empty(n_images * max(block.stop - block.start for block in blocks), dtype)

    def read(block: slice) -> Floats:
        return features[:, block]

    with (
        ThreadPoolExecutor(1) as reader,  # one block ahead: the disk works while the CPU does
        tqdm(
            total=n_features, desc=stage, unit="feature", unit_scale=True, disable=not show_progress
        ) as bar,
    ):
        coming = reader.submit(read, blocks[0])
        for block, following in zip(blocks, [*blocks[1:], None], strict=True):
            x = coming.result()
            if following is not None:
                coming = reader.submit(read, following)
            yield block, x, room[: x.size].reshape(x.shape)
            bar.update(x.shape[1])


def _row_chunks(n_rows: int, n_columns: int) -> Iterator[slice]:
    n_chunk = max(1, _CHUNK_BYTES // (8 * n_columns))
    return (slice(start, start + n_chunk) for start in range(0, n_rows, n_chunk))


def _mean_and_variance(x: Floats, first: int) -> tuple[Float64s, Float64s]:
    """Mean and variance (ddof 0) of some features, of which the first has this number."""
    n_images, width = x.shape
    total, squares, rest = np.zeros((3, width))
    ones = np.ones(n_images)  # sums as products: BLAS has threads
    with np.errstate(invalid="ignore", over="ignore"):  # refused below
        for rows in _row_chunks(n_images, width):
            part = x[rows].astype(np.float64)
            total += ones[: len(part)] @ part
        mean = total / n_images
        for rows in _row_chunks(n_images, width):
            part = x[rows] - mean
            rest += ones[: len(part)] @ part
            squares += np.einsum("if,if->f", part, part)
        # The second term is zero but for rounding: it corrects the first.
        var = squares / n_images - np.square(rest / n_images)
    if not (finite := np.isfinite(var)).all():
        raise InvalidParameterError(
            "features are not all finite numbers",
            got=f"NaN or infinity in feature {first + np.argmin(finite)}",
            accepted="finite features",
        )
    return mean, var


def _scale(mean: Float64s, var: Float64s, n_images: int) -> Float64s:
    """Take the standard deviation; 1 for a feature that is constant but for rounding."""
    eps = np.finfo(np.float64).eps
    constant = var <= n_images * eps * var + np.square(n_images * eps * mean)
    return np.where(constant, 1.0, np.sqrt(var))


def _standardise(x: Floats, scaler: ScalerParams, columns: slice, out: Floats) -> None:
    """Standardise some columns of the features, in the precision of `out`."""
    mean, scale = scaler.mean_[columns], scaler.scale_[columns]
    rounded = mean.astype(out.dtype)
    # A mean may be 1e7 times its scale: rounded to float32 it is off by as much as the scale.
    shift = ((mean - rounded) / scale).astype(out.dtype)
    factor = (1 / scale).astype(out.dtype)
    for rows in _row_chunks(*x.shape):
        z = out[rows]
        np.subtract(x[rows], rounded, out=z, casting="same_kind")
        z *= factor
        z -= shift


def _centre(gram: Float64s) -> None:
    """Make a lower triangle of inner products that of the centred images, the whole matrix.

    The images are centred already, but for what rounding to float32 left.
    """
    n_images = len(gram)
    for start in range(0, n_images, _STRIP):
        rows, below = slice(start, start + _STRIP), slice(start + _STRIP, None)
        gram[rows, below] = gram[below, rows].T
        square = gram[rows, rows]
        square[:] = np.tril(square) + np.tril(square, -1).T
    mean = gram.mean(axis=0)
    mean -= mean.mean() / 2
    for start in range(0, n_images, _STRIP):
        rows = slice(start, start + _STRIP)
        gram[rows] -= mean[rows, None] + mean
