import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat

from berg.errors import InvalidParameterError
from berg.layout import NSDFiles
from berg.nsd.design import partition_images, read_design
from berg.simulation.nsd_tree.design import completed_sessions, draw_design, write_design

SUBJECTS = range(1, 9)


def draw(*sizes, **options):
    return draw_design(*sizes, np.random.default_rng(5), **options)


def repeats(design, n_trials=None):
    return np.bincount(design.order[:n_trials], minlength=design.subject_images.shape[1])


@settings(max_examples=60, deadline=None)
@given(
    # Session 31 alone has no room for the last showings of many validation images.
    st.integers(1, 30) | st.integers(40, 45),
    st.integers(100, 300),
    st.integers(2, 80),
    st.integers(1, 80),
    st.integers(0, 99),
)
def test_images_are_what_they_are_asked_to_be(n_sessions, n_train, n_test, n_val, seed):
    rng = np.random.default_rng(seed)
    design = draw_design(n_sessions, n_train, n_test, n_val, rng, all_ids=False)
    assert design.n_sessions == n_sessions
    assert len(np.unique(design.subject_images)) == n_test + n_val + 8 * n_train == design.n_ids
    counts = repeats(design)
    assert counts.min() >= 1
    assert counts.max() <= 3
    for subject in SUBJECTS:
        sessions = completed_sessions(subject, n_sessions)
        early = repeats(design, min(30, sessions) * design.trials_per_session)
        test = np.flatnonzero(early[: design.n_shared] == 3)
        np.testing.assert_array_equal(test, design.test_columns)
        n_seen = {part: len(design.columns(subject, part)) for part in ("val", "test")}
        assert n_seen == {"val": n_val, "test": n_test}
        assert len(design.columns(subject, "train")) <= n_train
    assert len(design.columns(1, "train")) == n_train


def test_nsds_own_size():
    design = draw(40, 9000, 515, 485)
    assert len(design.order) == 30_000
    assert (repeats(design) == 3).all()
    assert design.n_ids == 73_000
    assert [completed_sessions(subject, 40) for subject in SUBJECTS] == [
        *(40, 40, 32, 30),
        *(40, 32, 40, 30),
    ]
    assert [len(design.columns(s, "test")) for s in SUBJECTS] == [515] * 8
    assert [len(design.columns(s, "val")) for s in SUBJECTS] == [485] * 8
    # 1 - 0.25**3 of the images are seen in 30 of 40 sessions, 8,859 +- 12
    assert 8800 < len(design.columns(4, "train")) < 8920


def test_a_thousand_training_images_fit_into_two_sessions():
    design = draw(2, 1000, 200, 50)
    assert design.trials_per_session == 825  # 3 * 200 + 50 + 1000 showings
    assert [len(design.columns(8, part)) for part in ("train", "val", "test")] == [1000, 50, 200]
    assert draw(2, 800, 100, 50).trials_per_session == 750
    assert draw(2, 20, 4, 2).trials_per_session == 38  # 4 * 3 + 2 * 2 + 20 * 3 showings


@pytest.mark.parametrize(("n_sessions", "lacking"), [(1, 0), (2, 0), (3, 4), (12, 4), (41, 4)])
def test_some_subjects_lack_the_last_session(n_sessions, lacking):
    missing = [n_sessions - completed_sessions(subject, n_sessions) for subject in SUBJECTS]
    assert sum(missing) == lacking
    assert missing[0] == 0


@pytest.mark.parametrize("n_sessions", [2, 4])
def test_the_file_is_nsds_and_its_reader_finds_the_partitions(tmp_path, n_sessions):
    design, files = draw(n_sessions, 300, 20, 10), NSDFiles(tmp_path)
    write_design(files, design)
    stored = loadmat(files.design)
    n_images, n_trials = 330, len(design.order)
    for name, shape, dtype in (
        ("masterordering", (1, n_trials), np.uint16),
        ("subjectim", (8, n_images), np.int32),
        ("sharedix", (1, 30), np.int32),
        ("basiccnt", (3, n_sessions), np.uint16),
        ("stimpattern", (n_sessions, 12, stored["stimpattern"].shape[2]), np.uint8),
    ):
        assert (stored[name].shape, stored[name].dtype) == (shape, dtype), name
    assert (stored["masterordering"].min(), stored["masterordering"].max()) == (1, n_images)
    assert stored["subjectim"].min() >= 1
    assert stored["subjectim"].max() <= 73_000
    assert (stored["stimpattern"].sum(axis=(1, 2)) == design.trials_per_session).all()
    assert (np.array([1, 2, 3]) @ stored["basiccnt"] == design.trials_per_session).all()
    np.testing.assert_array_equal(stored["subjectim"][4, :30], stored["sharedix"][0])
    read = read_design(files)
    assert (read.n_shared, read.trials_per_session) == (30, design.trials_per_session)
    for subject in (1, 3):
        sessions = completed_sessions(subject, n_sessions)
        partition = partition_images(read, subject, sessions)
        for part in ("train", "val", "test"):
            expected = design.subject_images[subject - 1, design.columns(subject, part)]
            np.testing.assert_array_equal(getattr(partition, part), expected)


@pytest.mark.parametrize(
    ("sizes", "options", "match"),
    [
        ((0, 20, 4, 2), {}, "n_sessions and n_val from 1, n_train and n_test from 2"),
        ((2, 20, 4, 0), {}, "no such design"),
        ((2, 9200, 4, 2), {}, "up to 73000"),
        ((2, 20, 4, 2), {"trials_per_session": 39}, "accepted: 17 to 38 trials"),
        ((2, 20, 4, 2), {"trials_per_session": 16}, "accepted: 17 to 38 trials"),
        ((40, 3, 2, 1), {}, r"accepted: n_train=\d+ or more"),
    ],
)
def test_designs_that_cannot_be_are_refused(sizes, options, match):
    with pytest.raises(InvalidParameterError, match=match):
        draw(*sizes, **options)


def test_the_number_of_images_that_is_said_to_fit_does():
    with pytest.raises(InvalidParameterError) as raised:
        draw(40, 3, 2, 1)
    said = int(str(raised.value).partition("accepted: n_train=")[2].partition(" ")[0])
    assert draw(40, said, 2, 1).n_sessions == 40
    with pytest.raises(InvalidParameterError):
        draw(40, said - 1, 2, 1)
