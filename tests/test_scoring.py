import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from scipy.stats import pearsonr

from berg import scoring
from berg.errors import InvalidParameterError
from berg.scoring import (
    average_repeats,
    correlation,
    explained_variance_percent,
    ncsnr_from_trials,
    noise_ceiling,
    score_responses,
)


@pytest.fixture
def rng():
    return np.random.default_rng(20200220)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_correlation_is_scipys(rng, dtype):
    a = rng.standard_normal((20, 7)).astype(dtype)
    b = (0.5 * a + rng.standard_normal((20, 7))).astype(dtype)
    expected = [
        pearsonr(x.astype(float), y.astype(float)).statistic for x, y in zip(a.T, b.T, strict=True)
    ]
    # Both sum 20 float64 products; only the order differs.
    np.testing.assert_allclose(correlation(a, b), expected, rtol=1e-12)


def test_correlation_far_from_zero_keeps_its_digits(rng):
    x, y = rng.standard_normal((2, 50, 3))
    # 1e6 + x keeps 10 digits of x in float64; summing squares of 1e6 would keep 4.
    np.testing.assert_allclose(correlation(x + 1e6, y), correlation(x, y), rtol=1e-8)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6 + 0.1])
def test_correlation_with_a_constant_is_undefined(rng, constant):
    a = rng.standard_normal((7, 3))
    a[:, 1] = constant
    r = correlation(a, rng.standard_normal((7, 3)))
    np.testing.assert_array_equal(np.isnan(r), [False, True, False])


def test_correlation_with_nan_is_undefined_there_alone(rng):
    a, b = rng.standard_normal((2, 9, 3))
    b[4, 2] = np.nan
    np.testing.assert_array_equal(np.isnan(correlation(a, b)), [False, False, True])


def test_blocks_of_vertices_do_not_matter(rng, monkeypatch):
    a, b = rng.standard_normal((2, 10, 11))
    image = np.repeat(np.arange(5), 2)
    a[3, 6] = np.nan

    def work():
        return (
            correlation(a, b),
            ncsnr_from_trials(a, image),
            *vars(average_repeats(a, image)).values(),
        )

    whole = work()
    monkeypatch.setattr(scoring, "_BLOCK_BYTES", 8 * 10 * 4)  # four vertices at a time
    for expected, got in zip(whole, work(), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-12)  # summation order of einsum


@given(
    arrays(np.float64, (6, 2), elements=st.floats(-1e3, 1e3)),
    st.floats(0.1, 10),
    st.floats(-100, 100),
)
def test_correlation_ignores_gain_and_offset(a, gain, offset):
    b = a**2 + a[::-1]
    r, moved = correlation(a, b), correlation(gain * a + offset, b)
    spread = (np.ptp(a, axis=0) > 1e-3) & (np.ptp(b, axis=0) > 1e-3)
    # Moving by 100 leaves 1e-3 of spread about 11 digits.
    np.testing.assert_allclose(moved[spread], r[spread], atol=1e-6)
    assert np.all(np.abs(r[~np.isnan(r)]) <= 1)


@pytest.mark.parametrize("n_images", [0, 1])
def test_correlation_over_no_spread_of_images_is_undefined(n_images):
    assert np.isnan(correlation(np.ones((n_images, 3)), np.ones((n_images, 3)))).all()


@pytest.mark.parametrize("shapes", [((3, 4), (3, 5)), ((3,), (3,)), ((3, 4), (2, 4))])
def test_correlation_refuses_what_does_not_pair(shapes):
    a, b = (np.zeros(shape) for shape in shapes)
    with pytest.raises(InvalidParameterError, match="cannot be compared"):
        correlation(a, b)


def test_noise_ceiling_of_the_two_nsd_designs():
    # Worked by hand: NSD-core 1 / (1 + 1/3); NSD-synthetic 1 / (1 + 127.8/284).
    synthetic = np.repeat([2, 4, 8, 10], [236, 32, 8, 8])
    assert noise_ceiling(np.array([1.0]), 3) == pytest.approx(0.75)
    assert noise_ceiling(np.array([1.0]), synthetic) == pytest.approx(1 / (1 + 127.8 / 284))


def test_noise_ceiling_at_its_ends():
    ends = noise_ceiling(np.array([0.0, np.inf, np.nan]), 3)
    np.testing.assert_array_equal(ends, [0.0, 1.0, np.nan])


@pytest.mark.parametrize("repeats", [0, [2, 0], []])
def test_noise_ceiling_refuses_images_without_trials(repeats):
    with pytest.raises(InvalidParameterError, match="at least one trial"):
        noise_ceiling([1.0], repeats)


def test_explained_variance_is_undefined_without_signal():
    percent = explained_variance_percent([0.1, 0.3, 0.0, np.nan], [0.4, 0.2, 0.0, 0.5])
    np.testing.assert_allclose(percent, [25.0, 100.0, np.nan, np.nan])


def test_ncsnr_worked_by_hand():
    # Images seen 2 and 3 times: (1, 3) and (-2, 0, -1). Sums of squares around the means 2 and
    # -1 are 2 and 2, over 3 degrees of freedom: noise 4/3. All five have mean 0.2 and sum of
    # squares 15 - 0.2: total variance 14.8 / 4 = 3.7. Signal 3.7 - 4/3.
    trials = np.array([[1.0], [-2.0], [3.0], [0.0], [-1.0]])
    image = np.array([0, 1, 0, 1, 1])
    expected = np.sqrt((3.7 - 4 / 3) / (4 / 3))
    assert ncsnr_from_trials(trials, image) == pytest.approx(expected)
    averaged = average_repeats(trials, image)
    np.testing.assert_array_equal(averaged.means, [[2.0], [-1.0]])
    np.testing.assert_array_equal(averaged.n_missing, [0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_missing_trials_worked_by_hand(dtype):
    # Vertices: complete; one of two repeats missing; an image without any; nothing at all.
    gone = np.nan
    trials = np.array(
        [[1, 1, gone, gone], [5, 5, 5, gone], [3, gone, gone, gone], [6, 6, 6, gone]], dtype
    )
    averaged = average_repeats(trials, np.array([0, 1, 0, 1]))
    np.testing.assert_array_equal(averaged.means, [[2, 1, 0, 0], [5.5, 5.5, 5.5, 0]])
    np.testing.assert_array_equal(averaged.n_missing, [0, 1, 2, 4])
    assert np.isnan(trials).sum() == 7  # the caller's own are left as they were


def test_missing_trials_are_as_if_they_had_never_been_shown(rng):
    image = np.repeat(np.arange(6), [2, 3, 4, 2, 1, 5])
    trials = rng.standard_normal((17, 3))
    trials[[0, 3, 12], 1] = np.nan
    there = ~np.isnan(trials[:, 1])
    expected = ncsnr_from_trials(trials[there, 1:2], image[there])
    found = ncsnr_from_trials(trials, image)
    np.testing.assert_allclose(found[1], expected[0], rtol=1e-12)  # sums in another order
    np.testing.assert_allclose(
        found[[0, 2]], ncsnr_from_trials(trials[:, [0, 2]], image), rtol=1e-12
    )
    means = average_repeats(trials, image).means[:, 1]
    for number, mean in enumerate(means):
        assert mean == pytest.approx(np.nanmean(trials[image == number, 1]))


def test_ncsnr_of_nsdsynthetic_is_the_true_one(rng):
    """Over vertices from no signal to three times the noise, with NSD-synthetic's own design."""
    repeats = np.repeat([2, 4, 8, 10], [236, 32, 8, 8])
    image = np.repeat(np.arange(284), repeats)
    assert len(image) == 744
    true = np.linspace(0, 3, 2000)
    signal = stats.zscore(rng.standard_normal((284, 2000)))
    trials = true * signal[image] + rng.standard_normal((744, 2000))
    found = ncsnr_from_trials(stats.zscore(trials), image)
    # Images shown ten times weigh five times as much in the trials as those shown twice.
    realised = true * signal[image].std(axis=0)
    assert np.corrcoef(found, realised)[0, 1] > 0.99
    assert abs(np.median(found[200:] / realised[200:]) - 1) < 0.02


def test_an_image_whose_trials_are_all_missing_does_not_count_towards_ncsnr(rng):
    image = np.repeat(np.arange(4), 3)
    trials = rng.standard_normal((12, 1))
    trials[image == 3] = np.nan
    expected = ncsnr_from_trials(trials[:9], image[:9])
    np.testing.assert_allclose(ncsnr_from_trials(trials, image), expected, rtol=1e-12)


def test_ncsnr_is_undefined_where_missing_trials_leave_no_repeat():
    gone = np.nan
    trials = np.array([[gone, 1.0, 1.0], [gone, gone, 2.0], [gone, 3.0, gone]])
    # The third has one image alone, seen twice: all of its variance is noise.
    np.testing.assert_array_equal(ncsnr_from_trials(trials, np.array([0, 0, 1])), [gone, gone, 0])


def test_ncsnr_finds_the_true_ratio(rng):
    true = np.array([0.0, 0.3, 0.7, 1.5])
    image = np.repeat(np.arange(2000), 3)
    trials = (true * rng.standard_normal((2000, 4)))[image] + rng.standard_normal((6000, 4))
    # Variances of 2,000 images are known to about 3 %; an ncsnr of 0 is read as up to 0.2.
    np.testing.assert_allclose(ncsnr_from_trials(trials, image)[1:], true[1:], atol=0.05)
    assert ncsnr_from_trials(trials, image)[0] < 0.2


def test_ncsnr_of_less_signal_than_chance_is_zero():
    trials = np.array([[1.0], [-1.0], [-1.0], [1.0]])  # equal means: all of it is noise
    assert ncsnr_from_trials(trials, np.array([0, 0, 1, 1])) == 0


def test_ncsnr_without_noise_is_undefined():
    trials = np.array([[1.0, 4.0], [1.0, 4.0], [2.0, 4.0]])
    assert np.isnan(ncsnr_from_trials(trials, np.array([0, 0, 1]))).all()


def test_rounding_of_exact_repeats_is_no_noise(rng):
    trials = np.repeat(rng.standard_normal((50, 20)), 3, axis=0)
    assert np.isnan(ncsnr_from_trials(trials, np.repeat(np.arange(50), 3))).all()
    trials[0] += 1e-7  # what float32 can tell is noise
    assert np.isfinite(ncsnr_from_trials(trials, np.repeat(np.arange(50), 3))).all()


def test_order_of_trials_does_not_matter(rng):
    image = np.repeat(np.arange(4), [2, 4, 1, 3])
    trials = rng.standard_normal((10, 5))
    shuffle = rng.permutation(10)
    for function in (ncsnr_from_trials, lambda *given: average_repeats(*given).means):
        expected = function(trials, image)
        np.testing.assert_allclose(function(trials[shuffle], image[shuffle]), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("image", "match"),
    [([0, 1, 3], "without gaps"), ([-1, 0, 1], "without gaps"), ([0, 1], "fit together")],
)
@pytest.mark.parametrize("function", [ncsnr_from_trials, average_repeats])
def test_trials_and_images_must_fit(function, image, match):
    with pytest.raises(InvalidParameterError, match=match):
        function(np.zeros((3, 2)), np.array(image))


def test_ncsnr_needs_repeats():
    with pytest.raises(InvalidParameterError, match="told from signal"):
        ncsnr_from_trials(np.zeros((3, 2)), np.arange(3))


def test_score_responses_puts_it_together():
    measured = np.array([[1.0, 1.0, 3.0], [2.0, 2.0, 3.0], [3.0, 3.0, 3.0]])
    predicted = np.array([[1.0, 3.0, 1.0], [0.0, 2.0, 2.0], [2.0, 1.0, 3.0]])
    scores = score_responses(measured, predicted, ncsnr=np.array([1.0, 0.0, 2.0]), repeats=3)
    # First vertex by hand: deviations (-1, 0, 1) and (0, -1, 1), so r = 1 / 2.
    np.testing.assert_allclose(scores.correlation, [0.5, 0.0, np.nan])
    np.testing.assert_allclose(scores.r2, [0.25, 0.0, np.nan])
    np.testing.assert_allclose(scores.noise_ceiling, [0.75, 0.0, 12 / 13])
    np.testing.assert_allclose(scores.explained_variance_percent, [100 / 3, np.nan, np.nan])
