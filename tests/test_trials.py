import io
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from tqdm import tqdm

from berg.errors import InvalidParameterError
from berg.scoring import average_repeats, ncsnr_from_trials
from berg.training import synthetic
from berg.training import trials as module
from berg.training.shown_images import Group
from berg.training.synthetic import synthetic_trials
from berg.training.trial_files import read_ahead, trial_buffers
from berg.training.trials import reduce_trials
from berg.training.zscores import zscore, zscore_into

# float32 z-scores, means and products of numbers around one, 100 of them summed
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


@dataclass
class InMemory:
    """A session that is an array, and counts how often it is read."""

    trials: np.ndarray
    n_readings: list[int] = field(default_factory=list)

    @property
    def n_trials(self):
        return self.trials.shape[0]

    @property
    def n_vertices(self):
        return self.trials.shape[1]

    def read(self, out=None, *, vertices=None):
        read = self.trials[:, vertices or slice(None)]
        self.n_readings.append(read.shape[1])
        out = np.empty_like(read) if out is None else out
        out[:] = read
        return out

    def read_trials(self, indices):
        return self.trials[indices].copy()


@dataclass
class Experiment:
    """Four sessions of 24 trials: images 0-29 shown about three times, with gaps in the ids."""

    sessions: list[np.ndarray]
    image: np.ndarray
    groups: list[Group]
    kept: np.ndarray

    def reduce(self):
        files = [InMemory(trials) for trials in self.sessions]
        self.n_readings = files[0].n_readings
        return reduce_trials(files, self.image, self.groups, self.kept)


@pytest.fixture(params=["one block", "many blocks"])
def experiment(request, rng, monkeypatch):
    if request.param == "many blocks":
        monkeypatch.setattr(module, "_BLOCK_WIDTH", 16)
        monkeypatch.setattr(module, "_PIECE_WIDTH", 7)
    return make_experiment(rng)


def make_experiment(rng, n_sessions=4, n_trials=24, n_vertices=40):
    ids = 10 * np.arange(30) + 3
    image = rng.choice(ids, n_sessions * n_trials)
    in_train, in_val = ids[:18], ids[15:22]  # three images are in both
    never_shown = np.array([7])
    return Experiment(
        [rng.normal(1, 2, (n_trials, n_vertices)).astype(np.float32) for _ in range(n_sessions)],
        image,
        [
            Group(in_train, rng.standard_normal((18, 5)).astype(np.float32)),
            Group(in_val, rng.standard_normal((7, 3)).astype(np.float32)),
        ],
        np.concatenate([ids[20:26], never_shown, ids[:1]]),
    )


def literal(experiment):
    """What the docstrings say, in float64, one vertex at a time."""
    n_vertices = experiment.sessions[0].shape[1]
    z = []
    for trials in experiment.sessions:
        scores = np.full(trials.shape, np.nan)
        for v, column in enumerate(trials.T.astype(np.float64)):
            existing = column[~np.isnan(column)]
            if len(np.unique(existing)) > 1:
                scores[:, v] = stats.zscore(column, nan_policy="omit")
        z.append(scores)
    z = np.concatenate(z)

    def mean_response(image):
        means = np.zeros(n_vertices)
        for v in range(n_vertices):
            repeats = z[experiment.image == image, v]
            if not np.isnan(repeats).all():
                means[v] = np.nanmean(repeats)
        return means

    products = []
    for group in experiment.groups:
        product = np.zeros((group.rows.shape[1], n_vertices))
        for image, row in zip(group.images, group.rows, strict=True):
            product += np.outer(row, mean_response(image))
        products.append(product)
    shown = {image: ~np.isnan(z[experiment.image == image]) for image in experiment.image}
    n_present = [
        sum(shown[image].any(axis=0).astype(int) for image in group.images if image in shown)
        + np.zeros(n_vertices, int)
        for group in experiment.groups
    ]
    means = [mean_response(image) for image in experiment.kept]
    return products, means, np.isnan(z).sum(axis=0), n_present


def assert_literal(experiment):
    got = experiment.reduce()
    products, means, n_missing, n_present = literal(experiment)
    for product, expected in zip(got.products, products, strict=True):
        assert product.dtype == np.float32
        np.testing.assert_allclose(product, expected, **TOLERANCE)
    assert got.means.dtype == np.float32
    np.testing.assert_allclose(got.means, means, **TOLERANCE)
    assert got.n_missing.dtype == np.int32
    np.testing.assert_array_equal(got.n_missing, n_missing)
    for count, expected in zip(got.n_present, n_present, strict=True):
        assert count.dtype == np.int32
        np.testing.assert_array_equal(count, expected)
    return got


def constant(sessions, session, vertex, value=5.0):
    sessions[session][:, vertex] = value


def constant_but_for(sessions, trial):
    constant(sessions, 1, 4)
    sessions[1][trial, 4] = 6


def constant_and_nan(sessions, trial):
    constant(sessions, 1, 4)
    sessions[1][trial, 4] = np.nan


def nan(sessions, session, trials, vertices):
    sessions[session][trials, vertices] = np.nan


def two_trials_left(sessions):
    nan(sessions, 1, slice(2, None), 4)


ALL = slice(None)
# What may be wrong, and whether three trials of each session tell all: first, middle and last.
PATTERNS = {
    "nothing": (lambda s: None, True),
    "vertices NaN in a session": (lambda s: nan(s, 1, ALL, [4, 17, 39]), True),
    "a vertex NaN in two sessions": (lambda s: (nan(s, 0, ALL, 4), nan(s, 2, ALL, 4)), True),
    "all vertices NaN in a session": (lambda s: nan(s, 3, ALL, ALL), True),
    "a vertex NaN everywhere": (lambda s: [nan(s, i, ALL, 17) for i in range(4)], True),
    "a constant session": (lambda s: constant(s, 1, 4), True),
    "a session of zeros": (lambda s: constant(s, 1, 4, 0), True),
    "constant everywhere, not the same": (lambda s: [constant(s, i, 4, i) for i in range(4)], True),
    "constant at 0.1, which sums round": (lambda s: constant(s, 1, 4, 0.1), True),
    "one first trial NaN": (lambda s: nan(s, 1, 0, 4), False),
    "one trial NaN between the three": (lambda s: nan(s, 1, 5, 4), False),
    "all but two trials NaN": (two_trials_left, False),
    "all but one trial NaN": (lambda s: nan(s, 1, slice(1, None), 4), True),
    "constant but for one trial": (lambda s: constant_but_for(s, 5), False),
    "constant but for the middle trial": (lambda s: constant_but_for(s, 12), True),
    "constant with a NaN": (lambda s: constant_and_nan(s, 5), True),
    "constant with a NaN in the middle": (lambda s: constant_and_nan(s, 12), True),
    "each trial NaN somewhere": (
        lambda s: [nan(s, i, np.arange(24), np.arange(24)) for i in range(4)],
        False,
    ),
    "a NaN trial beside a NaN session": (
        lambda s: (nan(s, 0, ALL, [4, 5]), nan(s, 1, 5, 5), nan(s, 2, ALL, 6)),
        False,
    ),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_literal_pipeline(experiment, pattern):
    spoil, seen_in_three_trials = PATTERNS[pattern]
    spoil(experiment.sessions)
    assert_literal(experiment)
    assert len(experiment.n_readings) == (1 if seen_in_three_trials else 2)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_sessions=st.integers(1, 5),
    n_trials=st.integers(1, 12),
    shares=st.tuples(*[st.sampled_from([0.0, 0.1, 0.5])] * 3),
)
def test_the_literal_pipeline_whatever_is_missing(seed, n_sessions, n_trials, shares):
    rng = np.random.default_rng(seed)
    experiment = make_experiment(rng, n_sessions, n_trials, n_vertices=10)
    for trials in experiment.sessions:
        trials[rng.random(trials.shape) < shares[0]] = np.nan
        trials[:, rng.random(10) < shares[1]] = np.nan
        trials[:, rng.random(10) < shares[2]] = 2.0
    assert_literal(experiment)


def test_an_image_shown_only_in_a_missing_session_counts_as_zero(rng):
    experiment = make_experiment(rng)
    experiment.image[24:48] = 1000 + np.arange(24)  # each shown once, in the second session
    nan(experiment.sessions, 1, ALL, 4)
    experiment.kept = experiment.image[24:48]
    means = assert_literal(experiment).means
    assert (means[:, 4] == 0).all()
    assert (means[:, 5] != 0).all()
    experiment.groups = [Group(experiment.kept, np.ones((24, 1), np.float32))]
    assert assert_literal(experiment).n_present[0][[4, 5]].tolist() == [0, 24]


def test_vertices_far_from_zero_keep_their_digits(experiment):
    for trials in experiment.sessions:
        trials *= 0.5
        trials += 1000  # float32 has 14 bits left for a standard deviation of one
    got = assert_literal(experiment)
    assert len(experiment.n_readings) == 1
    assert (got.n_missing == 0).all()


def test_infinite_trials_are_missing_as_nan_is(rng):
    experiment = make_experiment(rng)
    nan(experiment.sessions, 1, [3, 5], 4)
    expected = experiment.reduce()
    experiment.sessions[1][[3, 5], 4] = np.inf, -np.inf
    got = experiment.reduce()
    np.testing.assert_array_equal(got.products[0], expected.products[0])
    np.testing.assert_array_equal(got.n_missing, expected.n_missing)


def test_sessions_of_different_length(rng):
    experiment = make_experiment(rng)
    one, two, *others = experiment.sessions
    experiment.sessions = [one, two[:9], np.concatenate(others)]
    experiment.image = experiment.image[: sum(map(len, experiment.sessions))]
    assert_literal(experiment)


def test_permuting_vertices_permutes_columns(rng):
    experiment = make_experiment(rng)
    nan(experiment.sessions, 1, ALL, [4, 5])
    nan(experiment.sessions, 2, 5, [4, 6])
    before = experiment.reduce()
    order = rng.permutation(40)
    experiment.sessions = [trials[:, order] for trials in experiment.sessions]
    after = experiment.reduce()
    np.testing.assert_allclose(after.products[0], before.products[0][:, order], **TOLERANCE)
    np.testing.assert_allclose(after.means, before.means[:, order], **TOLERANCE)
    np.testing.assert_array_equal(after.n_missing, before.n_missing[order])


def test_groups_add_up(rng):
    experiment = make_experiment(rng)
    (group, _) = experiment.groups
    experiment.groups = [
        group,
        Group(group.images[:7], group.rows[:7]),
        Group(group.images[7:], group.rows[7:]),
        Group(np.repeat(group.images, 2), np.repeat(group.rows / 2, 2, axis=0)),
        Group(group.images[:0], group.rows[:0]),
    ]
    whole, first, second, twice, none = experiment.reduce().products
    np.testing.assert_allclose(first + second, whole, **TOLERANCE)
    np.testing.assert_allclose(twice, whole, **TOLERANCE)
    assert none.shape == whole.shape
    assert not none.any()


def test_the_same_bytes_again(experiment):
    for pattern in ("vertices NaN in a session", "one trial NaN between the three"):
        PATTERNS[pattern][0](experiment.sessions)
    first, second = experiment.reduce(), experiment.reduce()
    for a, b in zip(first.products, second.products, strict=True):
        assert a.tobytes() == b.tobytes()
    assert first.means.tobytes() == second.means.tobytes()


def test_memory_bounds_the_second_reading(experiment, monkeypatch, caplog):
    monkeypatch.setattr(module, "_AGAIN_BYTES", 30 * 8 * 10)  # ten vertices, of 40
    for trials in experiment.sessions:
        trials[np.arange(40) % 24, np.arange(40)] = np.nan
    assert_literal(experiment)
    whole, *parts = experiment.n_readings
    assert (whole, parts) == (40, [10] * 4)  # together, one more reading
    assert "40 vertices miss single trials: they are read again, in 4 parts" in caplog.text


def test_the_log_counts_what_is_missing(rng, caplog):
    experiment = make_experiment(rng)
    nan(experiment.sessions, 1, ALL, [4, 5])
    nan(experiment.sessions, 2, 5, 6)
    with caplog.at_level("INFO"):
        experiment.reduce()
    assert "3 of 40 vertices miss trials; 1 of them were read again" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.sessions.pop(), "72 trials in 3 sessions, images of 96 trials"),
        (lambda e: e.sessions.clear(), "0 sessions"),
        (lambda e: e.sessions.append(e.sessions[0][:, :3]), r"numbers of vertices \[3, 40\]"),
        (lambda e: e.groups.append(Group(e.kept, np.ones((3, 2), "f4"))), r"shape \(3, 2\)"),
    ],
)
def test_what_does_not_fit_is_refused(rng, change, message):
    experiment = make_experiment(rng)
    change(experiment)
    files = [InMemory(trials) for trials in experiment.sessions]
    with pytest.raises(InvalidParameterError, match=message):
        reduce_trials(files, experiment.image, experiment.groups, experiment.kept)


def test_reading_ahead_gives_each_session_in_order(rng):
    sessions = [rng.random((n, 3)).astype(np.float32) for n in (2, 4, 3)]
    files = [InMemory(session) for session in sessions]
    for got, expected in zip(read_ahead(files, trial_buffers(files)), sessions, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_the_bar_goes_forward_by_one_per_session(rng):
    experiment = make_experiment(rng)
    files = [InMemory(trials) for trials in experiment.sessions]
    with tqdm(total=4, file=io.StringIO()) as bar:
        reduce_trials(files, experiment.image, experiment.groups, experiment.kept, bar=bar)
        assert (bar.n, bar.total) == (4, 4)
    nan(experiment.sessions, 1, 5, 4)
    with tqdm(total=4, file=io.StringIO()) as bar:
        reduce_trials(files, experiment.image, experiment.groups, experiment.kept, bar=bar)
        assert (bar.n, bar.total) == (8, 8)  # one part is read again


def test_an_error_of_the_reader_is_raised(rng):
    class Broken(InMemory):
        def read(self, out=None, *, vertices=None):
            raise OSError("the disk is on fire")

    experiment = make_experiment(rng, n_sessions=3)
    files = [InMemory(experiment.sessions[0]), Broken(experiment.sessions[1])]
    with pytest.raises(OSError, match="on fire"):
        reduce_trials(files, experiment.image[:48], experiment.groups, experiment.kept)


def test_zscore_is_scipys(rng):
    trials = rng.normal(1000, 1, (30, 5))
    trials[rng.random(trials.shape) < 0.2] = np.nan
    expected = stats.zscore(trials, axis=0, nan_policy="omit")
    # Both subtract 1000 in float64, which leaves 13 digits.
    np.testing.assert_allclose(zscore(trials), expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("mean", [0.0, 1.0, -1e3, 1e6])
@pytest.mark.parametrize("sd", [1e-20, 1e-6, 1.0, 1e25])
def test_float32_zscores_are_as_good_as_float64s(rng, mean, sd):
    trials = rng.normal(mean, sd, (750, 30)).astype(np.float32)  # mostly constant if sd << mean
    trials[:, 0] = mean
    trials[7, 1] = mean + 1e4 * sd  # an outlier of 27 standard deviations
    trials[7, 2] = np.nan
    out = np.full_like(trials, np.nan)
    n_missing = zscore_into(out, trials)
    expected = zscore(trials)
    np.testing.assert_array_equal(n_missing, np.isnan(expected).sum(axis=0))
    np.testing.assert_allclose(out, np.nan_to_num(expected), **TOLERANCE)


@pytest.mark.parametrize("piece_width", [7, 1024])
def test_synthetic_trials_are_averaged_and_their_noise_ceiling_estimated(
    rng, monkeypatch, piece_width
):
    monkeypatch.setattr(synthetic, "_PIECE_WIDTH", piece_width)
    image = rng.permutation(np.repeat(np.arange(10), [2, 2, 2, 2, 4, 4, 8, 8, 2, 2]))
    trials = rng.standard_normal((len(image), 40)).astype(np.float32)
    trials += rng.standard_normal((10, 40)).astype(np.float32)[image]
    nan([trials], 0, ALL, 3)
    nan([trials], 0, [1, 5], 4)
    constant([trials], 0, 5)
    got = synthetic_trials(InMemory(trials), image)
    z = np.full(trials.shape, np.nan)
    varying = [v for v in range(40) if v not in (3, 5)]
    z[:, varying] = stats.zscore(trials[:, varying].astype(float), axis=0, nan_policy="omit")
    averaged = average_repeats(z, image)
    for name, expected in (
        ("means", averaged.means),
        ("ncsnr", ncsnr_from_trials(z, image)),
        ("n_missing", averaged.n_missing),
    ):
        found = getattr(got, name)
        assert found.dtype == (np.int32 if name == "n_missing" else np.float32)
        np.testing.assert_allclose(found, expected, **TOLERANCE)
    assert np.flatnonzero(got.n_missing).tolist() == [3, 4, 5]
    assert got.n_missing[[3, 4, 5]].tolist() == [36, 2, 36]


def test_synthetic_trials_that_do_not_fit_are_refused(rng):
    with pytest.raises(InvalidParameterError, match="images of 9 trials"):
        synthetic_trials(InMemory(np.ones((8, 3), np.float32)), np.zeros(9, np.int64))
