import tracemalloc

import numpy as np
import pytest
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from berg.errors import InvalidParameterError
from berg.fitting import eigenvectors, feature_blocks, fit_components, project
from berg.fitting.eigenvectors import leading_eigenvectors
from berg.training.feature_store import FeatureStore

DTYPES = [np.float32, np.float64]


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


def standardised(features):
    return StandardScaler().fit_transform(features.astype(np.float64))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stored", DTYPES)
def test_scaler_is_scikit_learns(features, dtype, stored):
    features = features.astype(stored)
    ours = fit_components(features, 3, dtype=dtype).scaler
    oracle = StandardScaler().fit(features.astype(np.float64))
    np.testing.assert_allclose(ours.mean_, oracle.mean_, rtol=1e-14)
    # A variance far below the squared mean keeps the digits of float64 that are left.
    np.testing.assert_allclose(ours.var_, oracle.var_, rtol=1e-9, atol=1e-30)
    np.testing.assert_allclose(ours.scale_, oracle.scale_, rtol=1e-9)
    assert (ours.n_features_in_, ours.n_samples_seen_) == (300, 40)
    assert {a.dtype for a in (ours.scale_, ours.mean_, ours.var_)} == {np.dtype(np.float64)}


def test_constant_features_have_scale_one_and_no_weight(features):
    fitted = fit_components(features, 3)
    for constant in (slice(0, None, 10), slice(5, None, 10)):
        assert (fitted.scaler.scale_[constant] == 1).all()
        # 0.1 has a rounding error in its mean; but for that its features are zero
        np.testing.assert_allclose(fitted.pca.components_[:, constant], 0, atol=1e-15)
    assert fitted.scaler.scale_.min() < 1e-6  # small, but not constant: kept


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(features, bad, monkeypatch):
    monkeypatch.setattr(feature_blocks, "BLOCK_BYTES", 8 * 40 * 13)
    features[3, 17] = bad
    with pytest.raises(InvalidParameterError, match="in feature 17"):
        fit_components(features, 3)


@pytest.mark.parametrize("shape", [(1, 4), (5,), (3, 0)])
def test_too_little_to_fit_on(shape):
    with pytest.raises(InvalidParameterError, match="feature matrix"):
        fit_components(np.zeros(shape), 1)


@pytest.mark.parametrize("n_components", [1, 12, 29])
def test_components_are_scikit_learns(features, n_components):
    fitted = fit_components(features, n_components, dtype=np.float64)
    ours, oracle = fitted.pca, PCA(n_components, svd_solver="full")
    scores = oracle.fit_transform(standardised(features))
    # Components are stored in float32; the Gram matrix squares the condition number (here 1e2).
    np.testing.assert_allclose(ours.components_, oracle.components_, atol=1e-6)
    np.testing.assert_allclose(ours.mean_, oracle.mean_, atol=1e-8)
    for name in ("explained_variance_", "explained_variance_ratio_", "singular_values_"):
        np.testing.assert_allclose(getattr(ours, name), getattr(oracle, name), rtol=1e-9)
    assert ours.noise_variance_ == pytest.approx(oracle.noise_variance_)
    assert (ours.n_components_, ours.n_samples_, ours.n_features_in_) == (n_components, 40, 300)
    assert ours.components_.dtype == fitted.scores.dtype == np.float32
    np.testing.assert_allclose(fitted.scores, scores, atol=1e-5)
    np.testing.assert_allclose(project(features, fitted.scaler, ours), scores, atol=1e-4)


@pytest.mark.parametrize("n_components", [1, 12, 29])
def test_float32_products_are_as_good(features, n_components):
    ours = fit_components(features, n_components)
    oracle = PCA(n_components, svd_solver="full")
    scores = oracle.fit_transform(standardised(features))
    # Rounding to float32, 6e-8, of the largest product: the smallest has a hundredth of it.
    np.testing.assert_allclose(ours.pca.explained_variance_, oracle.explained_variance_, rtol=1e-5)
    assert subspace_angles(ours.pca.components_.T, oracle.components_.T).max() < 1e-5
    np.testing.assert_allclose(ours.scores, scores, atol=1e-3)  # the largest is 20
    assert ours.pca.noise_variance_ == pytest.approx(oracle.noise_variance_, rel=1e-4, abs=1e-6)


def test_fewer_features_than_images(rng):
    x = rng.standard_normal((50, 6))
    ours, oracle = fit_components(x, 4, dtype=np.float64).pca, PCA(4, svd_solver="full")
    oracle.fit(standardised(x))
    np.testing.assert_allclose(ours.components_, oracle.components_, atol=1e-6)
    assert ours.noise_variance_ == pytest.approx(oracle.noise_variance_)


def test_small_variation_on_a_large_mean_is_kept(rng):
    """As a mean in float32 is off by as much as the variation, it has to be corrected."""
    x = 1e4 + rng.standard_normal((60, 90)) @ np.diag(np.geomspace(1e-2, 1, 90))
    ours, oracle = fit_components(x, 5), PCA(5, svd_solver="full")
    scores = oracle.fit_transform(standardised(x))
    np.testing.assert_allclose(ours.scores, scores, atol=1e-3)  # the largest is 4
    np.testing.assert_allclose(project(x, ours.scaler, ours.pca), scores, atol=1e-3)


def test_training_scores_are_uncorrelated_and_centred(features):
    fitted = fit_components(features, 10)
    covariance = np.cov(fitted.scores, rowvar=False)
    largest = fitted.pca.explained_variance_[0]
    # float32 scores: 1e-7 of the largest variance
    expected = np.diag(fitted.pca.explained_variance_)
    np.testing.assert_allclose(covariance, expected, atol=1e-6 * largest)
    np.testing.assert_allclose(fitted.scores.mean(axis=0, dtype=float), 0, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n_components", "rank"), [(0, 39), (40, 39), (31, 30)])
def test_components_that_are_not_there_are_refused(rng, dtype, n_components, rank):
    x = rng.standard_normal((40, 30)) @ rng.standard_normal((30, 300))
    with pytest.raises(InvalidParameterError, match=f"40 images\n.*1 to {rank}\n"):
        fit_components(x, n_components, dtype=dtype)
    assert len(fit_components(x, 30, dtype=dtype).pca.components_) == 30


def test_project_refuses_other_features(features):
    fitted = fit_components(features, 3)
    with pytest.raises(InvalidParameterError, match="not those of this PCA"):
        project(features[:, :7], fitted.scaler, fitted.pca)


def test_input_stays_as_it_is(features):
    before = features.copy()
    fit_components(features, 3)
    np.testing.assert_array_equal(features, before)


def test_blocks_do_not_matter(features, monkeypatch):
    whole = fit_components(features, 8)
    monkeypatch.setattr(feature_blocks, "BLOCK_BYTES", 8 * 40 * 13)  # 13 columns at a time
    parts = fit_components(features, 8)
    np.testing.assert_array_equal(parts.scaler.scale_, whole.scaler.scale_)
    # float32 sums, in another order
    np.testing.assert_allclose(parts.pca.components_, whole.pca.components_, atol=1e-5)
    np.testing.assert_allclose(parts.scores, whole.scores, atol=1e-4)


def test_a_store_on_disk_gives_what_an_array_gives(features, tmp_path, monkeypatch):
    monkeypatch.setattr("berg.training.feature_store._MAX_COLUMNS", 13)
    monkeypatch.setattr(feature_blocks, "BLOCK_BYTES", 8 * 40 * 13)
    store = FeatureStore.create(tmp_path / "features", *features.shape)
    store.write(0, features)
    disk, memory = fit_components(store, 8), fit_components(features, 8)
    np.testing.assert_array_equal(disk.pca.components_, memory.pca.components_)
    np.testing.assert_array_equal(disk.scores, memory.scores)
    np.testing.assert_array_equal(
        project(store, disk.scaler, disk.pca), project(features, disk.scaler, disk.pca)
    )


def test_no_copy_of_the_features_is_made(rng):
    features = rng.standard_normal((60, 400_000), dtype=np.float32)  # 96 MB, 192 in float64
    tracemalloc.start()
    fitted = fit_components(features, 2)
    project(features, fitted.scaler, fitted.pca)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    kept = 4 * fitted.scaler.mean_.nbytes + fitted.pca.components_.nbytes
    assert peak - kept < 4 * feature_blocks.BLOCK_BYTES


def test_progress_is_shown_when_asked_for(features, capsys):
    fit_components(features, 2)
    assert capsys.readouterr().err == ""
    fit_components(features, 2, show_progress=True)
    shown = capsys.readouterr().err
    assert "Inner products: 100%" in shown
    assert "Components: 100%" in shown


def spectrum(values, rng):
    """Symmetric matrix with these eigenvalues."""
    vectors = np.linalg.qr(rng.standard_normal((len(values), len(values))))[0]
    return vectors * values @ vectors.T, vectors


@pytest.mark.parametrize("dense_up_to", [0, 1000])
@pytest.mark.parametrize(
    "values",
    [
        np.arange(1, 601) ** -0.9,  # as of AlexNet's features
        np.maximum(np.arange(1, 601) ** -2.0 - 3e-4, 0),  # rank 57
        np.repeat(np.geomspace(1, 1e-6, 150), 4),  # each four times
        np.r_[np.full(40, 2.0), np.ones(560)],  # more often than a block is wide
    ],
)
def test_leading_eigenvectors(rng, values, dense_up_to):
    matrix, _ = spectrum(values, rng)
    found, vectors = leading_eigenvectors(matrix, 40, dense_up_to=dense_up_to)
    np.testing.assert_allclose(found, values[:40], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(40), atol=1e-12)
    residual = np.linalg.norm(matrix @ vectors - vectors * found, axis=0)
    assert (residual <= np.maximum(1.1e-9 * found, 1e-12)).all()


@pytest.mark.parametrize(
    "values",
    [
        np.arange(1, 601) ** -0.9,  # as of AlexNet's features
        np.maximum(np.arange(1, 601) ** -2.0 - 3e-4, 0),
        np.repeat(np.geomspace(1, 1e-6, 150), 4),
    ],
)
def test_the_krylov_space_itself_converges(rng, values):
    found = eigenvectors._block_krylov(spectrum(values, rng)[0], 40)
    assert found is not None
    np.testing.assert_allclose(found[0], values[:40], rtol=1e-9)


def test_a_flat_spectrum_is_left_to_lapack_once_the_largest_space_was_tried(rng, monkeypatch):
    tried = []
    eigh = eigenvectors.scipy.linalg.eigh

    def spy(matrix, **options):
        tried.append(len(matrix))
        return eigh(matrix, **options)

    monkeypatch.setattr(eigenvectors.scipy.linalg, "eigh", spy)
    matrix, _ = spectrum(np.linspace(1, 0.5, 600), rng)
    assert eigenvectors._block_krylov(matrix, 40) is None
    assert tried[-1] == 288  # up to 600 / 2 directions, in blocks of 16


def test_eigenvectors_are_the_same_every_time(rng):
    matrix, _ = spectrum(np.arange(1, 601) ** -0.9, rng)
    first, again = (leading_eigenvectors(matrix, 20, dense_up_to=0) for _ in range(2))
    np.testing.assert_array_equal(first[1], again[1])
