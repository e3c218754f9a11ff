import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform

from berg.errors import InvalidParameterError, ResourceError
from berg.responses import Readout, Responses
from lazy_responses import N_COMPONENTS, both, readout, responses, scores


def one_hemisphere(coef, intercept):
    coef, intercept = np.float32(coef), np.float32(intercept)
    n = len(coef)
    return Readout(coef, intercept, coef[:0], intercept[:0], np.arange(n), np.arange(0))


@pytest.mark.parametrize("metric", ["correlation", "euclidean"])
@pytest.mark.parametrize("roi", [None, "V1v", ["V1v", "V1d"]])
def test_distances_are_scipys_of_the_materialised_responses(metric, roi):
    lazy = responses()
    got = lazy.rdm(roi, metric)
    pattern = both(lazy if roi is None else lazy.roi(roi))
    # Both in float64: SciPy sums over vertices, we over components.
    np.testing.assert_allclose(got, squareform(pdist(pattern, metric)), rtol=0, atol=1e-7)
    assert got.dtype == np.float64
    np.testing.assert_array_equal(got, got.T)
    np.testing.assert_array_equal(np.diagonal(got), 0)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40), st.integers(0, 3), st.floats(-3, 3))
def test_distances_of_any_readout(seed, n_vertices, offset, log_scale):
    rng = np.random.default_rng(seed)
    of = one_hemisphere(
        rng.standard_normal((n_vertices, N_COMPONENTS)) * 10**log_scale + offset,
        rng.standard_normal(n_vertices) - offset,
    )
    lazy = Responses(scores(seed=seed), of)
    euclidean = lazy.rdm(metric="euclidean")
    expected = squareform(pdist(both(lazy)))
    np.testing.assert_allclose(euclidean, expected, rtol=1e-6, atol=1e-6 * expected.max())
    # Patterns over few vertices can be almost constant: their correlation has few digits.
    np.testing.assert_allclose(
        lazy.rdm(), squareform(pdist(both(lazy), "correlation")), rtol=0, atol=1e-5
    )
    for distances in (euclidean, lazy.rdm()):
        assert (distances >= 0).all()
    assert (lazy.rdm() <= 2).all()


def test_blocks_of_vertices_and_the_rows_of_regions_add_up(monkeypatch):
    expected = responses().rdm(["V1v", "V1d"])
    monkeypatch.setattr("berg.responses.readout._VERTEX_BLOCK", 2)
    np.testing.assert_allclose(responses().rdm(["V1v", "V1d"]), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        responses().rdm(), squareform(pdist(both(responses()), "correlation")), atol=1e-7
    )


def test_the_same_before_and_after_selecting():
    lazy = responses()
    whole = lazy.rdm("V1v")
    np.testing.assert_allclose(lazy.roi("V1v").rdm(), whole, rtol=0, atol=1e-12)
    part = [4, 1, 7]
    np.testing.assert_allclose(lazy[part].rdm("V1v"), whole[np.ix_(part, part)], atol=1e-12)
    left = lazy.hemisphere("lh")
    expected = squareform(pdist(both(left)[:, [1, 2, 3]], "correlation"))
    np.testing.assert_allclose(left.rdm("V1v"), expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("metric", ["correlation", "euclidean"])
def test_the_same_image_twice_is_at_no_distance(metric):
    twice = responses()[[3, 3, 5]].rdm(metric=metric)
    # A square root of rounding: sqrt(1e-16)
    np.testing.assert_allclose(twice[0, 1], 0, rtol=0, atol=1e-6)


def test_patterns_without_variance_have_no_correlation():
    # The first image's scores and the common intercept give 1 at every vertex.
    of = one_hemisphere(np.random.default_rng(0).standard_normal((40, N_COMPONENTS)), np.ones(40))
    given_scores = scores()
    given_scores[0] = 0
    lazy = Responses(given_scores, of)
    got = lazy.rdm()
    assert np.isnan(got[0]).all()
    assert np.isnan(got[:, 0]).all()
    np.testing.assert_allclose(
        got[1:, 1:], squareform(pdist(both(lazy)[1:], "correlation")), rtol=0, atol=1e-7
    )
    assert np.isfinite(lazy.rdm(metric="euclidean")).all()


@pytest.mark.parametrize("seed", range(5))
def test_patterns_that_vary_by_rounding_alone_have_no_correlation(seed):
    """The first component and the intercept are the same everywhere, and no binary fractions."""
    rng = np.random.default_rng(seed)
    coef = rng.standard_normal((40, N_COMPONENTS))
    coef[:, 0] = 0.3
    given_scores = scores(seed=seed)
    given_scores[:2] = np.array([[0.7], [70.0]]) * np.eye(N_COMPONENTS)[0]
    lazy = Responses(given_scores, one_hemisphere(coef, np.full(40, 0.1)))
    got = lazy.rdm()
    assert np.isnan(got[:2]).all()
    assert np.isnan(got[:, :2]).all()
    assert np.isfinite(got[2:, 2:]).all()


def test_small_differences_between_large_responses_keep_their_digits():
    lazy = Responses(scores() + np.float32(2**13), readout())
    np.testing.assert_allclose(lazy.rdm(metric="euclidean"), squareform(pdist(both(lazy))), 1e-10)


@pytest.mark.parametrize("n_extreme", [1, 3, 5, 8])
@pytest.mark.parametrize("block", [2, 256])
def test_distances_among_extreme_images_and_beside_them(monkeypatch, n_extreme, block):
    """Of a few images whose scores are huge, however many; those of the others stay exact."""
    monkeypatch.setattr("berg.responses.rdm._ROW_BLOCK", block)
    monkeypatch.setattr("berg.responses.rdm._PAIR_BLOCK", 3)
    given_scores = scores()
    given_scores[-n_extreme:] = given_scores[-n_extreme:] + np.float32(2**22)
    given_scores[4] = given_scores[5]  # and the same twice
    lazy = Responses(given_scores, readout())
    got = lazy.rdm(metric="euclidean")
    # The oracle rounds responses of 1e7; differences of scores first are exact.
    of, exact = lazy.readout, given_scores.astype(np.float64)
    coef = np.concatenate([of.lh_coef, of.rh_coef]).astype(np.float64)
    expected = np.linalg.norm((exact[:, None] - exact[None]) @ coef.T, axis=2)
    np.testing.assert_allclose(got, expected, rtol=1e-7, atol=1e-7)
    np.testing.assert_array_equal(got, got.T)
    np.testing.assert_array_equal(np.diagonal(got), 0)


def test_regions_of_the_same_responses_are_told_apart():
    lazy = responses()
    for roi in (None, "V1v", "V1d", ["V1d", "V1v"], "V1v", None):
        fresh = responses() if roi is None else responses().roi(roi)
        np.testing.assert_allclose(lazy.rdm(roi), fresh.rdm(), rtol=0, atol=1e-12)


def test_a_single_vertex_has_no_correlation():
    lazy = responses().hemisphere("lh").roi("OWFA")
    assert lazy.lh_vertices.tolist() == [7]
    assert np.isnan(lazy.rdm()).all()
    np.testing.assert_allclose(
        lazy.rdm(metric="euclidean"), squareform(pdist(both(lazy))), rtol=0, atol=1e-6
    )


def test_vertices_that_are_all_alike_have_no_correlation():
    coef = np.tile(np.random.default_rng(1).standard_normal(N_COMPONENTS), (30, 1))
    assert np.isnan(Responses(scores(), one_hemisphere(coef, np.full(30, 0.3))).rdm()).all()


def test_an_image_without_scores_is_nan_alone():
    given_scores = scores()
    given_scores[2] = np.nan
    for metric in ("correlation", "euclidean"):
        got = Responses(given_scores, readout()).rdm(metric=metric)
        whole = responses().rdm(metric=metric)
        others = np.delete(np.arange(9), 2)
        assert np.isnan(got[2]).all()
        assert np.isnan(got[:, 2]).all()
        np.testing.assert_allclose(
            got[np.ix_(others, others)], whole[np.ix_(others, others)], rtol=0, atol=1e-7
        )


def test_nothing_selected():
    assert responses()[[]].rdm().shape == (0, 0)
    empty = Responses(scores(), readout(n_lh=0, n_rh=0))
    assert np.isnan(empty.rdm()).all()
    np.testing.assert_array_equal(empty.rdm(metric="euclidean"), 0)


def test_bad_metric():
    with pytest.raises(InvalidParameterError, match="Did you mean 'correlation'"):
        responses().rdm(metric="corelation")


def test_a_matrix_that_does_not_fit_is_refused_with_its_bytes():
    many = Responses(np.zeros((10_000_000, 1), np.float32), readout(n_components=1))
    with pytest.raises(ResourceError, match=r"800\.0 TB needed"):
        many.rdm()


def test_the_sums_over_a_regions_vertices_are_computed_once_for_a_readout(monkeypatch):
    counted = []
    sum_products = Readout._sum_products
    monkeypatch.setattr(
        Readout, "_sum_products", lambda self, *rows: counted.append(1) or sum_products(self, *rows)
    )
    one = readout()
    scores = np.random.default_rng(0).standard_normal((4, one.n_components), np.float32)
    first, second = (Responses(images, one) for images in (scores, scores[::-1].copy()))
    np.testing.assert_array_equal(first.rdm(), second.rdm()[::-1, ::-1])
    first.rdm(metric="euclidean")
    assert len(counted) == 1
    Responses(scores, readout()).rdm()
    assert len(counted) == 2
