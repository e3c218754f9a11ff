"""Fit the three steps of the encoding model in memory: scaler, PCA, linear regression.

The features are one matrix (n_images, n_features), 205,672 wide for AlexNet. Whatever is
made from it in float64 is made a block of columns at a time.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from berg.errors import InvalidParameterError
from berg.weights import PCAParams, RegressionParams, ScalerParams

Floats = npt.NDArray[np.floating]
Float64s = npt.NDArray[np.float64]

_BLOCK_BYTES = 8 * 2**20  # one float64 block; measured faster than 64 MiB, for the cache


def fit_scaler(features: Floats) -> ScalerParams:
    """Mean and standard deviation (ddof 0) of every feature.

    Parameters
    ----------
    features : (n_images, n_features) float
        Features of the training images.

    Returns
    -------
    ScalerParams
        In float64, as scikit-learn's ``StandardScaler`` gives them: a feature that is
        constant but for rounding has scale 1.

    Raises
    ------
    InvalidParameterError
        If there are fewer than two images, or a feature is NaN or infinite.

    References
    ----------
    Chan, Golub & LeVeque (1983), "Algorithms for computing the sample variance", The
    American Statistician 37, https://doi.org/10.2307/2683386: the variance in two passes,
    and the bound on its rounding error below which scikit-learn calls a feature constant.
    """
    n_images, n_features = _check_features(features)
    mean, var = np.empty(n_features), np.empty(n_features)
    for block in _column_blocks(n_images, n_features):
        x = features[:, block].astype(np.float64)
        with np.errstate(invalid="ignore"):  # inf - inf: refused below
            mean[block] = x.mean(axis=0)
            x -= mean[block]
            # The second term is zero but for rounding: it corrects the first.
            var[block] = np.einsum("if,if->f", x, x) / n_images - np.square(x.mean(axis=0))
    if not (finite := np.isfinite(var)).all():
        raise InvalidParameterError(
            "features are not all finite numbers",
            got=f"{np.count_nonzero(~finite)} features with NaN or infinity, "
            f"the first is feature {np.argmin(finite)}",
            accepted="finite features",
        )
    eps = np.finfo(np.float64).eps
    constant = var <= n_images * eps * var + np.square(n_images * eps * mean)
    return ScalerParams(
        scale_=np.where(constant, 1.0, np.sqrt(var)),
        mean_=mean,
        var_=var,
        n_features_in_=n_features,
        n_samples_seen_=n_images,
    )


def fit_pca(features: Floats, scaler: ScalerParams, n_components: int = 250) -> PCAParams:
    """Exact principal components of the standardised features.

    With far fewer images than features, the singular vectors come from the small matrix of
    the images' inner products (Gram matrix), which is summed over blocks of features.

    Parameters
    ----------
    features : (n_images, n_features) float
        Features of the training images, not standardised.
    scaler : ScalerParams
        From `fit_scaler` on the same features.
    n_components : int
        Components to keep, largest variance first.

    Returns
    -------
    PCAParams
        What scikit-learn's ``PCA(svd_solver="full")`` gives, with its signs (of each
        component the largest entry is positive); `components_` are float32.

    Raises
    ------
    InvalidParameterError
        If the images span fewer than `n_components` dimensions.
    """
    n_images, n_features = _check_features(features)
    gram = np.zeros((n_images, n_images))
    mean = np.empty(n_features)
    for block in _column_blocks(n_images, n_features):
        z = _standardised(features, scaler, block)
        mean[block] = z.mean(axis=0)
        z -= mean[block]
        gram += z @ z.T
    eigenvalues, vectors = np.linalg.eigh(gram)
    eigenvalues, vectors = eigenvalues[::-1], vectors[:, ::-1]
    # Eigenvalues carry an absolute error of about eps times the largest; what lies below a
    # hundred times that is rounding, not a direction.
    floor = 100 * n_images * np.finfo(np.float64).eps * eigenvalues[0]
    rank = np.count_nonzero(eigenvalues > floor)
    if not 1 <= n_components <= rank:
        raise InvalidParameterError(
            "the images do not span that many principal components",
            got=f"n_components={n_components}, {n_images} images of rank {rank}",
            accepted=f"1 to {rank}",
            do="fit with more images that differ, or keep fewer components",
        )
    singular_values = np.sqrt(eigenvalues[:n_components])
    weights = (vectors[:, :n_components] / singular_values).T
    components = np.empty((n_components, n_features), dtype=np.float32)
    for block in _column_blocks(n_images, n_features):
        z = _standardised(features, scaler, block)
        z -= mean[block]
        components[:, block] = weights @ z
    for component in components:
        component *= np.sign(component[np.argmax(np.abs(component))])
    n_nonzero = min(n_images, n_features)  # scikit-learn counts these, rounding included
    variance = np.maximum(eigenvalues, 0.0) / (n_images - 1)
    rest = variance[n_components:n_nonzero]
    return PCAParams(
        components_=components,
        mean_=mean,
        explained_variance_=variance[:n_components],
        explained_variance_ratio_=variance[:n_components] / variance.sum(),
        singular_values_=singular_values,
        n_components_=n_components,
        n_samples_=n_images,
        noise_variance_=float(rest.mean()) if rest.size else 0.0,
        n_features_in_=n_features,
    )


def project(features: Floats, scaler: ScalerParams, pca: PCAParams) -> Float64s:
    """Scores of images: their standardised features on the principal components.

    Parameters
    ----------
    features : (n_images, n_features) float
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
    if features.ndim != 2 or features.shape[1] != pca.n_features_in_:
        raise InvalidParameterError(
            "the features are not those of this PCA",
            got=f"shape {features.shape}",
            accepted=f"(n_images, {pca.n_features_in_})",
        )
    scores = np.zeros((len(features), pca.n_components_))
    for block in _column_blocks(len(features), pca.n_features_in_):
        z = _standardised(features, scaler, block)
        z -= pca.mean_[block]
        scores += z.astype(np.float32) @ pca.components_[:, block].T.astype(np.float32, copy=False)
    return scores


def fit_regression(scores: Floats, responses: Floats) -> RegressionParams:
    """Ordinary least squares with intercept, all vertices at once.

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
    n_images, n_components = scores.shape
    if n_images <= n_components:
        raise InvalidParameterError(
            "too few images for a regression",
            got=f"{n_images} images for {n_components} components",
            accepted=f"at least {n_components + 1} images",
            do="fit with more images, or keep fewer components",
        )
    n_vertices = responses.shape[1]
    mean = scores.mean(axis=0, dtype=np.float64)
    solver = np.linalg.pinv(scores - mean)  # (n_components, n_images)
    coef = np.empty((n_vertices, n_components), dtype=np.float32)
    intercept = np.empty(n_vertices, dtype=np.float32)
    for block in _column_blocks(n_images, n_vertices):
        y = responses[:, block].astype(np.float64)
        y_mean = y.mean(axis=0)
        y -= y_mean
        slopes = y.T @ solver.T
        coef[block] = slopes
        intercept[block] = y_mean - slopes @ mean
    return RegressionParams(coef_=coef, intercept_=intercept, n_features_in_=n_components)


def _check_features(features: Floats) -> tuple[int, int]:
    """Shape of a feature matrix of at least two images."""
    if features.ndim != 2 or len(features) < 2 or features.shape[1] == 0:
        raise InvalidParameterError(
            "not a feature matrix to fit on",
            got=f"shape {features.shape}",
            accepted="(n_images, n_features), two images at least",
        )
    return features.shape[0], features.shape[1]


def _standardised(features: Floats, scaler: ScalerParams, block: slice) -> Float64s:
    """Standardise some columns of the features, in float64."""
    z = features[:, block].astype(np.float64)
    z -= scaler.mean_[block]
    z /= scaler.scale_[block]
    return z


def _column_blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Cut columns into slices whose float64 copy has a bounded size."""
    width = max(1, _BLOCK_BYTES // (8 * max(n_rows, 1)))
    return (slice(start, start + width) for start in range(0, n_columns, width))
