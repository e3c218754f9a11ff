import tracemalloc

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from berg import fitting
from berg.errors import InvalidParameterError
from berg.fitting import fit_pca, fit_regression, fit_scaler, project


@pytest.fixture
def rng():
    return np.random.default_rng(20200220)


@pytest.fixture
def features(rng):
    """ReLU-like features of 40 images: dead units, scales from 1e-7 to 10, offsets."""
    x = rng.standard_normal((40, 30)) @ rng.standard_normal((30, 300))
    x = np.maximum(x * np.geomspace(1e-7, 10, 300), 0) + rng.choice([0, 0.5], 300)
    x[:, ::10] = 0
    x[:, 5::10] = 0.1
    return x.astype(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scaler_is_scikit_learns(features, dtype):
    features = features.astype(dtype)
    ours, oracle = fit_scaler(features), StandardScaler().fit(features.astype(np.float64))
    np.testing.assert_allclose(ours.mean_, oracle.mean_, rtol=1e-14)
    # A variance far below the squared mean keeps the digits of float64 that are left.
    np.testing.assert_allclose(ours.var_, oracle.var_, rtol=1e-9, atol=1e-30)
    np.testing.assert_allclose(ours.scale_, oracle.scale_, rtol=1e-9)
    assert (ours.n_features_in_, ours.n_samples_seen_) == (300, 40)
    assert {a.dtype for a in (ours.scale_, ours.mean_, ours.var_)} == {np.dtype(np.float64)}


def test_constant_features_have_scale_one(features):
    scale = fit_scaler(features).scale_
    assert (scale[::10] == 1).all()
    assert (scale[5::10] == 1).all()
    assert scale.min() < 1e-6  # small, but not constant: kept


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scaler_refuses_what_is_not_finite(features, bad):
    features[3, 17] = bad
    with pytest.raises(InvalidParameterError, match="feature 17"):
        fit_scaler(features)


@pytest.mark.parametrize("shape", [(1, 4), (5,), (3, 0)])
def test_too_little_to_fit_on(shape):
    with pytest.raises(InvalidParameterError, match="feature matrix"):
        fit_scaler(np.zeros(shape))


@pytest.mark.parametrize("n_components", [1, 12, 29])
def test_pca_is_scikit_learns(features, n_components):
    scaler = fit_scaler(features)
    z = StandardScaler().fit_transform(features.astype(np.float64))
    ours, oracle = fit_pca(features, scaler, n_components), PCA(n_components, svd_solver="full")
    scores = oracle.fit_transform(z)
    # Components are stored in float32; the Gram matrix squares the condition number (here 1e2).
    np.testing.assert_allclose(ours.components_, oracle.components_, atol=1e-6)
    np.testing.assert_allclose(ours.mean_, oracle.mean_, atol=1e-8)
    for name in ("explained_variance_", "explained_variance_ratio_", "singular_values_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(oracle, name), rtol=1e-9)
    assert ours.noise_variance_ == pytest.approx(oracle.noise_variance_)
    assert (ours.n_components_, ours.n_samples_, ours.n_features_in_) == (n_components, 40, 300)
    assert ours.components_.dtype == np.float32
    np.testing.assert_allclose(project(features, scaler, ours), scores, atol=1e-4)


def test_pca_of_fewer_features_than_images_is_scikit_learns(rng):
    x = rng.standard_normal((50, 6))
    ours, oracle = fit_pca(x, fit_scaler(x), 4), PCA(4, svd_solver="full")
    oracle.fit(StandardScaler().fit_transform(x))
    np.testing.assert_allclose(ours.components_, oracle.components_, atol=1e-6)
    assert ours.noise_variance_ == pytest.approx(oracle.noise_variance_)


def test_training_scores_are_uncorrelated(features):
    scaler = fit_scaler(features)
    pca = fit_pca(features, scaler, 10)
    covariance = np.cov(project(features, scaler, pca), rowvar=False)
    # float32 components: 1e-7 of the largest variance
    largest = pca.explained_variance_[0]
    np.testing.assert_allclose(covariance, np.diag(pca.explained_variance_), atol=1e-6 * largest)


@pytest.mark.parametrize("n_components", [0, 40])
def test_pca_refuses_components_that_are_not_there(features, n_components):
    with pytest.raises(InvalidParameterError, match=r"40 images of rank \d\d\n.*1 to"):
        fit_pca(features, fit_scaler(features), n_components)


def test_project_refuses_other_features(features):
    scaler = fit_scaler(features)
    with pytest.raises(InvalidParameterError, match="not those of this PCA"):
        project(features[:, :7], scaler, fit_pca(features, scaler, 3))


def test_regression_is_scikit_learns(rng):
    scores = rng.standard_normal((60, 7)) * np.geomspace(1, 100, 7) + 5
    responses = (scores @ rng.standard_normal((7, 20)) + 3).astype(np.float32)
    ours, oracle = fit_regression(scores, responses), LinearRegression().fit(scores, responses)
    # stored in float32: seven digits, of sums of up to 500 for the intercept
    np.testing.assert_allclose(ours.coef_, oracle.coef_, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(ours.intercept_, oracle.intercept_, atol=1e-4)
    assert ours.coef_.shape == (20, 7)
    assert ours.coef_.dtype == ours.intercept_.dtype == np.float32
    assert ours.n_features_in_ == 7


def test_regression_of_dependent_scores_has_the_smallest_norm(rng):
    column = rng.standard_normal((20, 1))
    ours = fit_regression(np.hstack([column, column]), 4 * column + 1)
    np.testing.assert_allclose(ours.coef_, [[2, 2]], rtol=1e-6)  # float32
    np.testing.assert_allclose(ours.intercept_, [1], rtol=1e-6)


def test_regression_keeps_a_nan_in_its_vertex(rng):
    scores, responses = rng.standard_normal((10, 2)), rng.standard_normal((10, 3))
    responses[4, 1] = np.nan
    ours = fit_regression(scores, responses)
    assert np.isnan(ours.coef_[1]).all()
    assert np.isnan(ours.intercept_[1])
    others = fit_regression(scores, responses[:, [0, 2]])
    # A matrix product sums in another order for another number of columns.
    np.testing.assert_allclose(ours.coef_[[0, 2]], others.coef_, rtol=1e-5)
    np.testing.assert_allclose(ours.intercept_[[0, 2]], others.intercept_, rtol=1e-5)


@pytest.mark.parametrize(
    ("shapes", "match"), [(((4, 4), (4, 9)), "at least 5"), (((4, 2), (5, 9)), "fit together")]
)
def test_regression_refuses_what_it_cannot_fit(shapes, match):
    with pytest.raises(InvalidParameterError, match=match):
        fit_regression(*(np.zeros(shape) for shape in shapes))


def test_blocks_do_not_matter(features, rng, monkeypatch):
    def fitted():
        scaler = fit_scaler(features)
        pca = fit_pca(features, scaler, 8)
        scores = project(features, scaler, pca)
        regression = fit_regression(scores, responses)
        return scaler.scale_, pca.components_, scores, regression.coef_, regression.intercept_

    responses = rng.standard_normal((40, 90))
    whole = fitted()
    monkeypatch.setattr(fitting, "_BLOCK_BYTES", 8 * 40 * 13)  # 13 columns at a time
    for expected, got in zip(whole, fitted(), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)  # sums, in other order


def test_no_float64_copy_of_the_features_is_made(rng):
    features = rng.standard_normal((60, 400_000), dtype=np.float32)  # 96 MB, 192 in float64
    tracemalloc.start()
    scaler = fit_scaler(features)
    pca = fit_pca(features, scaler, 2)
    project(features, scaler, pca)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    kept = 4 * scaler.mean_.nbytes + pca.components_.nbytes
    assert peak - kept < 4 * fitting._BLOCK_BYTES  # of 192 MB
