from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import loadmat

from berg.errors import FileFormatError, InvalidParameterError, NSDFilesNotFoundError
from berg.layout import NSDFiles
from berg.nsd.design import Design, partition_images, read_design, read_synthetic_design
from nsd_tree_fixture import N_SESSIONS, N_TRIALS, SHARED, stimpattern, write_design, write_nsd

REAL = Path(__file__).parents[2] / "shared" / "data" / "nsd" / "nsd_expdesign.mat"
COMPLETED = (40, 40, 32, 30, 40, 32, 40, 30)
N_TRAIN = (9000, 9000, 8481, 8302, 9000, 8481, 9000, 8302)
N_VAL = (485, 485, 415, 392, 485, 415, 485, 392)

ORDER = np.arange(1, 11)[np.newaxis]  # ten trials, ten images
IMAGES = np.stack([np.arange(1, 11), [1, 2, 3, *range(11, 18)]])  # of two subjects


@pytest.fixture
def files(tmp_path):
    return NSDFiles(tmp_path)


@pytest.fixture(scope="module")
def real_design(tmp_path_factory):
    if not REAL.exists():
        pytest.skip("needs NSD's design in ../shared/data/nsd")
    files = NSDFiles(tmp_path_factory.mktemp("nsd"))
    files.design.parent.mkdir(parents=True)
    files.design.symlink_to(REAL)
    return read_design(files)


def test_the_real_design(real_design):
    file = loadmat(REAL)
    assert (real_design.n_shared, real_design.trials_per_session) == (1000, 750)
    assert (real_design.n_subjects, real_design.n_sessions) == (8, 40)
    np.testing.assert_array_equal(real_design.shared_images, np.sort(file["sharedix"][0]) - 1)
    trial = 22_499
    expected = file["subjectim"][6, file["masterordering"][0, trial] - 1].astype(int) - 1
    assert real_design.trial_images(7, 30)[trial] == expected
    assert real_design.trial_images(7, 30).shape == (22_500,)


@pytest.mark.parametrize("subject", range(1, 9))
def test_partitions_of_the_real_design(real_design, subject):
    partition = partition_images(real_design, subject, COMPLETED[subject - 1])
    sizes = (len(partition.train), len(partition.val), len(partition.test))
    assert sizes == (N_TRAIN[subject - 1], N_VAL[subject - 1], 515)
    if subject == 1:
        assert partition.train[0] == 13
    other = partition_images(real_design, 8, 30)
    np.testing.assert_array_equal(partition.test, other.test)


def test_a_tiny_design(tmp_path):
    tree = write_nsd(tmp_path)
    design = read_design(tree.files)
    assert (design.n_shared, design.trials_per_session, design.n_sessions) == (SHARED, N_TRIALS, 3)
    for array in (design.masterordering, design.subject_images, design.shared_images):
        assert array.dtype == np.int64
    images = design.trial_images(2, 2)
    expected = [tree.subjectim[1, column - 1] - 1 for column in tree.masterordering[:20]]
    assert images.tolist() == expected


def test_a_partition_worked_by_hand():
    # Shared: 0, 1 and 2; subject 2's own: 20 to 22. Two sessions of six trials are used of three.
    design = Design(
        masterordering=np.array([0, 0, 1, 3, 3, 1] + [0, 2, 1, 4, 1, 4] + [5] * 6),
        subject_images=np.array([[9, 7, 8, 10, 11, 12], [9, 7, 8, 22, 21, 20]]),
        n_shared=3,
        trials_per_session=6,
    )
    partition = partition_images(design, 2, 2)
    assert partition.train.tolist() == [21, 22]
    assert partition.test.tolist() == [9]  # 7 was seen four times
    assert partition.val.tolist() == [7, 8]
    assert partition_images(design, 2, 1).test.tolist() == []
    assert partition_images(design, 2, 3).train.tolist() == [20, 21, 22]


def test_test_images_are_those_of_the_first_thirty_sessions():
    # One trial a session: image 0 for the third time in session 30, image 1 in session 31.
    order = np.array([0, 0, 1, 1] + [2] * 25 + [0] + [1, 3])
    images = np.array([[5, 6, 7, 8], [5, 6, 9, 10]])
    partition = partition_images(Design(order, images, 2, 1), 1, 32)
    assert partition.test.tolist() == [5]
    assert partition.val.tolist() == [6]
    assert partition.train.tolist() == [7, 8]


@given(st.data())
def test_partitions_divide_what_was_seen(data):
    n_shared = data.draw(st.integers(1, 5))
    n_images = n_shared + data.draw(st.integers(1, 5))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    design = Design(
        rng.integers(0, n_images, 36),
        np.stack([rng.permutation(20)[:n_images] for _ in range(2)]),
        n_shared,
        trials_per_session=6,
    )
    # The shared images of all subjects are the first one's.
    design.subject_images[1] = 20 + np.arange(n_images)
    design.subject_images[1, :n_shared] = design.subject_images[0, :n_shared]
    subject = data.draw(st.integers(1, 2))
    n_sessions = data.draw(st.integers(1, 6))
    partition = partition_images(design, subject, n_sessions)
    parts = (partition.train, partition.val, partition.test)
    together = np.concatenate(parts)
    seen = set(design.trial_images(subject, n_sessions).tolist())
    assert sorted(together) == sorted(seen)
    assert all(np.all(np.diff(part) > 0) and part.dtype == np.int64 for part in parts)
    assert np.isin(partition.train, design.shared_images).sum() == 0
    assert np.isin(np.concatenate(parts[1:]), design.shared_images).all()


@pytest.mark.parametrize(("subject", "n_sessions"), [(0, 1), (3, 1), (1, 0), (1, N_SESSIONS + 1)])
def test_subjects_and_sessions_that_the_design_lacks(tmp_path, subject, n_sessions):
    design = read_design(write_nsd(tmp_path).files)
    with pytest.raises(InvalidParameterError, match=r"the design (has no|does not order)"):
        design.trial_images(subject, n_sessions)


def test_without_stimpattern_sessions_have_750_trials(files):
    order = np.resize(ORDER, (1, 1500))
    write_design(files.design, masterordering=order, subjectim=IMAGES)
    assert read_design(files).n_sessions == 2
    write_design(files.design, masterordering=order[:, :1499], subjectim=IMAGES)
    with pytest.raises(FileFormatError, match="1,499 trials, and no stimpattern"):
        read_design(files)


def test_a_session_may_be_one_run(files):
    pattern = np.ones((2, 5))  # MATLAB drops a last axis of length 1
    write_design(files.design, masterordering=ORDER, subjectim=IMAGES, stimpattern=pattern)
    assert read_design(files).trials_per_session == 5


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"masterordering": None}, "no variable masterordering, but 'subjectim', 'stimpattern'"),
        ({"subjectim": None}, "no variable subjectim"),
        ({"masterordering": ORDER - 1}, "masterordering holds 0"),
        ({"masterordering": ORDER + 1}, "names image 11, subjectim has 10"),
        ({"masterordering": ORDER + 0.5}, r"masterordering holds 1\.5"),
        ({"masterordering": np.where(ORDER == 4, np.nan, ORDER)}, "masterordering holds nan"),
        ({"masterordering": "images"}, "masterordering is no matrix of real numbers"),
        ({"masterordering": ORDER + 1j}, "masterordering is no matrix of real numbers"),
        ({"masterordering": ORDER.reshape(2, 5)}, r"masterordering of shape \(2, 5\)"),
        ({"masterordering": np.empty((1, 0))}, r"masterordering of shape \(1, 0\)"),
        ({"subjectim": -IMAGES}, "subjectim holds -1"),
        ({"subjectim": IMAGES * 1e12}, "subjectim holds 1000000000000"),
        ({"subjectim": IMAGES[:1]}, "subjectim of 1 subjects, 10 of 10 images shared"),
        ({"subjectim": IMAGES[:, ::-1]}, "subjectim of 2 subjects, 0 of 10 images shared"),
        (
            {"subjectim": np.where(IMAGES[1, -1] == IMAGES, IMAGES[1, 0], IMAGES)},
            f"row 2 of subjectim has image {IMAGES[1, 0]} more than once",
        ),
        ({"stimpattern": np.ones((3, 2, 2))}, "stimpattern has 12 trials in 3 sessions"),
        ({"stimpattern": np.tri(4, 4)[:, :, None]}, "in 4 sessions, 1 to 4 each"),
        ({"stimpattern": np.array([["a"]], object)}, "stimpattern of shape"),
    ],
)
def test_designs_that_cannot_be(files, changed, match):
    right = {
        "masterordering": ORDER,
        "subjectim": IMAGES,
        "stimpattern": stimpattern(2, 5),
    }
    variables = {k: v for k, v in (right | changed).items() if v is not None}
    write_design(files.design, **variables)
    with pytest.raises(FileFormatError, match=match):
        read_design(files)


@pytest.mark.parametrize("n_bytes", [0, 50, 127, 130, 200, 300])
def test_designs_that_are_cut_off(files, n_bytes):
    write_design(files.design, masterordering=ORDER, subjectim=IMAGES)
    files.design.write_bytes(files.design.read_bytes()[:n_bytes])
    with pytest.raises(FileFormatError, match=r"nsd_expdesign\.mat is not an experimental design"):
        read_design(files)


@pytest.mark.parametrize("seed", range(5))
def test_designs_that_are_damaged(files, seed):
    files.design.parent.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    files.design.write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\0\1IM" + rng.bytes(400))
    with pytest.raises(FileFormatError, match="not an experimental design"):
        read_design(files)


def test_designs_of_other_formats(files):
    files.design.parent.mkdir(parents=True)
    with h5py.File(files.design, "w") as file:  # as MATLAB 7.3
        file["masterordering"] = ORDER
    with pytest.raises(FileFormatError, match="a whole MATLAB 5 file"):
        read_design(files)
    files.design.unlink()
    with pytest.raises(NSDFilesNotFoundError, match=r"nsd_expdesign\.mat not found"):
        read_design(files)


def test_the_synthetic_design(files):
    write_design(files.synthetic_design, masterordering=np.array([[3, 1, 2, 1]]))
    order = read_synthetic_design(files)
    assert order.dtype == np.int64
    assert order.tolist() == [2, 0, 1, 0]
    write_design(files.synthetic_design, masterordering=np.array([[3, 1, 1]]))
    with pytest.raises(FileFormatError, match="never shows image 2"):
        read_synthetic_design(files)
