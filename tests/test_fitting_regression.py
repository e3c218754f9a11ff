import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, Ridge

from berg.errors import InvalidParameterError
from berg.fitting import (
    DEFAULT_PENALTIES,
    feature_blocks,
    fit_regression,
    fit_ridge,
    regression_from_products,
    regression_rows,
    ridge,
    validation_rows,
)


@pytest.fixture
def rng():
    return np.random.default_rng(20200220)


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


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 5))
def test_rows_give_the_regression_and_can_be_summed_in_parts(seed, n_components, n_vertices):
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((30, n_components)) + 1
    responses = rng.standard_normal((30, n_vertices)).astype(np.float32)
    rows = regression_rows(scores)
    assert rows.shape == (30, n_components + 1)
    assert rows.dtype == np.float32
    products = rows[:11].T @ responses[:11] + rows[11:].T @ responses[11:]
    ours, oracle = regression_from_products(products, scores), fit_regression(scores, responses)
    # Products in float32 of numbers of size one: 1e-7 of the sum of 30.
    np.testing.assert_allclose(ours.coef_, oracle.coef_, atol=1e-5)
    np.testing.assert_allclose(ours.intercept_, oracle.intercept_, atol=1e-5)
    assert ours.coef_.dtype == ours.intercept_.dtype == np.float32
    assert ours.coef_.flags.c_contiguous


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


def test_blocks_of_vertices_do_not_matter(rng, monkeypatch):
    scores, responses = rng.standard_normal((40, 8)), rng.standard_normal((40, 90))
    whole = fit_regression(scores, responses)
    monkeypatch.setattr(feature_blocks, "BLOCK_BYTES", 8 * 40 * 13)  # 13 vertices at a time
    parts = fit_regression(scores, responses)
    np.testing.assert_allclose(parts.coef_, whole.coef_, atol=1e-6)  # rounded to float32
    np.testing.assert_allclose(parts.intercept_, whole.intercept_, atol=1e-6)


@pytest.mark.parametrize(
    ("shapes", "match"), [(((4, 4), (4, 9)), "at least 5"), (((4, 2), (5, 9)), "fit together")]
)
def test_regression_refuses_what_it_cannot_fit(shapes, match):
    with pytest.raises(InvalidParameterError, match=match):
        fit_regression(*(np.zeros(shape) for shape in shapes))


def test_products_of_other_scores_are_refused(rng):
    with pytest.raises(InvalidParameterError, match=r"\(4, 9\) and \(20, 4\)"):
        regression_from_products(np.zeros((4, 9)), np.zeros((20, 4)))


# Ridge. Of these vertices, the first have responses that follow the scores, the last noise.


@pytest.fixture
def data(rng):
    scores, val_scores = rng.standard_normal((2, 40, 12)) * np.geomspace(10, 0.3, 12) + 2
    val_scores = val_scores[:25]
    slopes = rng.standard_normal((12, 60)) * np.linspace(0.5, 0, 60)
    responses = scores @ slopes + 2 * rng.standard_normal((40, 60)) + 1
    val_responses = val_scores @ slopes + 2 * rng.standard_normal((25, 60)) + 1
    return scores, responses, val_scores, val_responses


def ridge_of(scores, responses, val_scores, val_responses, *penalties, dtype=np.float32):
    products = regression_rows(scores).T @ responses.astype(dtype)
    val_products = validation_rows(val_scores, scores).T @ val_responses.astype(dtype)
    return fit_ridge(products, scores, val_products, val_scores, *penalties)


def mean_eigenvalue(scores):
    return np.square(scores - scores.mean(axis=0)).sum() / scores.shape[1]


@pytest.mark.parametrize("relative", [0, 1e-3, 0.1, 10])
def test_ridge_of_one_penalty_is_scikit_learns(data, relative):
    scores, responses, *_ = data
    alpha = relative * mean_eigenvalue(scores)
    ours, penalty = ridge_of(*data, [relative])
    oracle = Ridge(alpha, solver="svd").fit(scores, responses)
    # float32, of sums of 40 numbers of size ten
    np.testing.assert_allclose(ours.coef_, oracle.coef_, atol=2e-5)
    np.testing.assert_allclose(ours.intercept_, oracle.intercept_, atol=2e-4)
    np.testing.assert_allclose(penalty, alpha, rtol=1e-6)
    assert ours.coef_.dtype == ours.intercept_.dtype == penalty.dtype == np.float32


def test_the_penalty_is_the_one_that_predicts_validation_best(data):
    scores, responses, val_scores, val_responses = data
    ours, penalty = ridge_of(*data)
    alphas = np.array(DEFAULT_PENALTIES) * mean_eigenvalue(scores)
    models = [Ridge(alpha, solver="svd").fit(scores, responses) for alpha in alphas]
    errors = [np.square(m.predict(val_scores) - val_responses).mean(axis=0) for m in models]
    best = np.argmin(errors, axis=0)
    assert len(np.unique(best)) > 4  # else there is little to choose
    np.testing.assert_allclose(penalty, alphas[best], rtol=1e-6)
    for vertex, index in enumerate(best):
        np.testing.assert_allclose(ours.coef_[vertex], models[index].coef_[vertex], atol=2e-5)
    plain = np.square(LinearRegression().fit(scores, responses).predict(val_scores) - val_responses)
    chosen = np.square(val_scores @ ours.coef_.T + ours.intercept_ - val_responses)
    assert (chosen.mean(axis=0) <= plain.mean(axis=0) + 1e-4).all()  # float32


def test_blocks_of_vertices_do_not_matter_for_ridge(data, monkeypatch):
    whole, penalty = ridge_of(*data)
    monkeypatch.setattr(ridge, "_BLOCK_WIDTH", 7)
    parts, penalty_of_parts = ridge_of(*data)
    np.testing.assert_array_equal(penalty_of_parts, penalty)
    np.testing.assert_allclose(parts.coef_, whole.coef_, atol=1e-6)  # sums, in other order


@pytest.mark.parametrize("which", [[1], [3], [1, 3]])
def test_a_vertex_without_responses(data, which):
    for part in which:
        data[part][:, 5] = 0
    ours, penalty = ridge_of(*data)
    assert np.isfinite(penalty).all()
    assert np.isfinite(ours.coef_).all()
    if 1 in which:
        np.testing.assert_array_equal(ours.coef_[5], 0)
        assert (penalty[5], ours.intercept_[5]) == (0, 0)


@pytest.mark.parametrize("part", [1, 3])
def test_a_nan_stays_in_its_vertex(data, part):
    data[part][2, 5] = np.nan
    ours, penalty = ridge_of(*data)
    assert np.flatnonzero(np.isnan(penalty)).tolist() == [5]
    assert np.isfinite(np.delete(ours.coef_, 5, axis=0)).all()


def test_dependent_scores(rng):
    column = rng.standard_normal((20, 1))
    scores = np.hstack([column, column])
    ours, _ = ridge_of(scores, 4 * column + 1, scores, 4 * column + 1)
    np.testing.assert_allclose(ours.coef_, [[2, 2]], rtol=1e-5)  # float32
    np.testing.assert_allclose(ours.intercept_, [1], rtol=1e-5)


@pytest.mark.parametrize(
    ("penalties", "match"),
    [([], "finite numbers"), ([-1.0], "finite numbers"), ([np.nan], "finite numbers")],
)
def test_penalties_that_are_none(data, penalties, match):
    with pytest.raises(InvalidParameterError, match=match):
        ridge_of(*data, penalties)


def test_missing_validation_responses_are_not_measured_zeros(data):
    scores, responses, val_scores, val_responses = data
    exists = np.ones(val_responses.shape, bool)
    exists[5:, 3] = False  # of a vertex that follows the scores, 20 of 25
    exists[:, 4] = False
    n_present = exists.sum(axis=0)
    products = regression_rows(scores).T @ responses
    rows = validation_rows(val_scores, scores)
    given = (products, scores, rows.T @ (exists * val_responses), val_scores)
    as_zeros = fit_ridge(*given)[1]
    ours, penalty = fit_ridge(*given, n_present=n_present)
    whole, expected = fit_ridge(products, scores, rows.T @ val_responses, val_scores)
    others = np.delete(np.arange(60), [3, 4])
    np.testing.assert_array_equal(penalty[others], expected[others])
    np.testing.assert_array_equal(ours.coef_[others], whole.coef_[others])
    assert penalty[3] < as_zeros[3]
    assert penalty[4] == 0 < as_zeros[4]
    plain = LinearRegression().fit(scores, responses)
    # whatever there is to choose from; float32, of sums of 40 numbers of size ten
    ours, penalty = fit_ridge(*given, [10.0], n_present=n_present)
    np.testing.assert_allclose(ours.coef_[4], plain.coef_[4], atol=2e-5)
    assert penalty[4] == 0 < penalty[3]


@pytest.mark.parametrize("n_present", [np.full(59, 25), np.full(60, 26), np.full(60, -1)])
def test_numbers_of_validation_images_that_cannot_be(data, n_present):
    scores, _, val_scores, _ = data
    zeros = np.zeros((13, 60))
    with pytest.raises(InvalidParameterError, match=r"shape \(60,\), 0 to 25"):
        fit_ridge(zeros, scores, zeros, val_scores, n_present=n_present)


def test_ridge_refuses_what_does_not_fit(data):
    scores, responses, val_scores, val_responses = data
    with pytest.raises(InvalidParameterError, match="without validation images"):
        ridge_of(scores, responses, val_scores[:0], val_responses[:0])
    with pytest.raises(InvalidParameterError, match="same shape"):
        ridge_of(scores, responses, val_scores, val_responses[:, :7])
    with pytest.raises(InvalidParameterError, match=r"\(12, 60\) and \(25, 12\)"):
        fit_ridge(np.zeros((13, 60)), scores, np.zeros((12, 60)), val_scores)
