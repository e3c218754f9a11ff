import gzip
import json
import shutil

import h5py
import nibabel
import numpy as np
import pytest
from scipy.io import loadmat

from berg import resources
from berg.errors import (
    FileFormatError,
    InvalidParameterError,
    MissingExtraError,
    NSDFilesNotFoundError,
    ResourceError,
)
from berg.layout import NSDFiles
from berg.nsd.design import partition_images, read_design
from berg.nsd.rois import read_rois
from berg.nsd.simulated import marker_path, read_marker
from berg.nsd.survey import survey
from berg.scoring import ncsnr_from_trials
from berg.simulation.nsd_tree import beginning, load_truth, simulate_nsd
from berg.simulation.nsd_tree.regions import draw_patches
from berg.simulation.nsd_tree.truth import truth_path

LEVEL, N_VERTICES = 3, 642
SUBJECTS = (1, 2, 3)
SIZES = {"n_sessions": 3, "n_train": 60, "n_test": 10, "n_val": 6}
N_TRIALS = 74  # a session, of 10 * 3 + 6 * 2 + 60 * 3 showings
HEMIS = ("lh", "rh")


def extract(images):
    """A small untrained network: random projections of a 16 x 16 thumbnail, and a ReLU."""
    rng = np.random.default_rng(9)
    n, _, height, width = images.shape
    pixels = height // 16
    left = (width - 16 * pixels) // 2
    square = images[:, :, : 16 * pixels, left : left + 16 * pixels]
    blocks = square.reshape(n, 3, 16, pixels, 16, pixels).mean(axis=(3, 5)).reshape(n, 768)
    return np.maximum(blocks / 64 @ rng.standard_normal((768, 400)), 0).astype(np.float32)


def simulate(folder, subjects=SUBJECTS, **changes):
    options = {"level": LEVEL, "seed": 3, "image_side": 64, "extract": extract}
    return simulate_nsd(folder, subjects, **(options | SIZES | {"show_progress": False} | changes))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("nsd"))


@pytest.fixture(scope="module")
def files(tree):
    return NSDFiles(tree)


def read_betas(path):
    """Read (n_trials, n_vertices) with nibabel, which knows nothing of how it was written."""
    image = nibabel.MGHImage.from_bytes(path.read_bytes())
    assert image.get_data_dtype() == np.dtype(">f4")
    n_vertices, one, other, n_trials = image.shape
    assert (one, other) == (1, 1)
    return np.asarray(image.dataobj).reshape(n_vertices, n_trials).T.astype(np.float64)


def zscore(trials):
    sd = trials.std(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):  # constant vertices become NaN
        return (trials - trials.mean(axis=0)) / np.where(sd > 1e-6 * np.nanmax(abs(trials)), sd, 0)


def test_the_readers_accept_the_tree(tree):
    found = survey(tree, SUBJECTS)
    assert found.design.trials_per_session == N_TRIALS
    assert [found.subjects[s].n_sessions for s in SUBJECTS] == [3, 3, 2]  # as in NSD: 40, 40, 32
    assert {found.subjects[s].n_vertices for s in SUBJECTS} == {N_VERTICES}


def test_the_partitions_are_those_asked_for_and_those_of_the_truth(tree, files):
    design = read_design(files)
    for subject, n_sessions in ((1, 3), (2, 3), (3, 2)):
        partition = partition_images(design, subject, n_sessions)
        truth = load_truth(tree, subject)
        for part in ("train", "val", "test"):
            np.testing.assert_array_equal(truth.img_num[part], getattr(partition, part))
        assert (len(partition.val), len(partition.test)) == (6, 10)
        if n_sessions == 3:
            assert len(partition.train) == 60


def test_betas_have_nsds_bytes(files):
    path = files.betas(1, "lh", 1)
    assert path.stat().st_size == 284 + 4 * N_VERTICES * N_TRIALS
    raw = np.fromfile(path, ">f4", offset=284).reshape(N_TRIALS, N_VERTICES)  # vertex fastest
    np.testing.assert_array_equal(raw, read_betas(path))
    assert read_betas(files.synthetic_betas(1, "rh")).shape == (744, N_VERTICES)


def test_betas_hold_what_real_ones_suffer_from(files):
    one, two, three = (read_betas(files.betas(1, "lh", session)) for session in (1, 2, 3))
    constant = [(trials == trials[0]).all(axis=0) for trials in (one, three)]
    assert 0 < constant[1].sum() < constant[0].sum() < 0.02 * N_VERTICES
    assert (one[:, constant[1]] == 0).all()  # outside the brain, in every session
    missing = np.isnan(two)
    assert (missing.all(axis=0) == missing.any(axis=0)).all()  # whole vertices
    assert missing[0].sum() == round(0.01 * N_VERTICES)
    assert not np.isnan(one).any()


def test_sessions_differ_in_mean_and_spread(files):
    one, three = (read_betas(files.betas(1, "rh", session)) for session in (1, 3))
    assert 0.05 < np.std(one.mean(axis=0) - three.mean(axis=0)) < 1
    assert 0.8 < np.median(one.std(axis=0)) < 3  # percent signal change


def test_noise_is_independent_of_session_hemisphere_and_subject(tree, files):
    noise = []
    for subject, hemi, session in ((1, "lh", 1), (1, "lh", 3), (1, "rh", 1), (2, "lh", 1)):
        silent = np.flatnonzero(load_truth(tree, subject).ncsnr[hemi] == 0)
        trials = zscore(read_betas(files.betas(subject, hemi, session)))[:, silent]
        noise.append(trials[:, ~np.isnan(trials).any(axis=0)][:, :60].ravel())
    together = np.corrcoef(noise) - np.eye(4)
    assert abs(together).max() < 0.08  # 5 standard errors of 4,440 values


def test_the_truth_is_in_the_betas(tree, files):
    """Over all trials of a subject, the share of signal is that of the stated ncsnr."""
    truth, design = load_truth(tree, 1), read_design(files)
    img_num = np.concatenate([truth.img_num[part] for part in ("train", "val", "test")])
    signal = np.concatenate([truth.signal("lh", part) for part in ("train", "val", "test")])
    order = np.argsort(img_num)
    rows = order[np.searchsorted(img_num[order], design.trial_images(1, 3))]
    np.testing.assert_allclose(np.var(signal[rows], axis=0), 1, rtol=1e-4)  # float32
    sessions = [zscore(read_betas(files.betas(1, "lh", session))) for session in (1, 2, 3)]
    trials = np.concatenate(sessions)
    whole = ~np.isnan(trials).any(axis=0)
    r = (trials * (signal[rows] - signal[rows].mean(axis=0))).mean(axis=0)[whole]
    ncsnr = truth.ncsnr["lh"][whole]
    expected = ncsnr / np.sqrt(1 + ncsnr**2)
    assert np.std(r - expected) < 1.5 / np.sqrt(len(rows))  # the sampling error of a correlation
    assert abs(np.mean(r - expected)) < 0.01


def test_synthetic_responses_have_the_stated_reliability(tree, files):
    truth = load_truth(tree, 1)
    order = loadmat(files.synthetic_design)["masterordering"]
    assert (order.shape, order.dtype) == ((1, 744), np.uint16)
    np.testing.assert_array_equal(order[0] - 1, truth.synthetic_trials)
    repeats = np.bincount(truth.synthetic_trials)
    assert dict(zip(*np.unique(repeats, return_counts=True), strict=True)) == {
        2: 236,
        4: 32,
        8: 8,
        10: 8,
    }
    trials = zscore(read_betas(files.synthetic_betas(1, "lh")))
    whole = ~np.isnan(trials).any(axis=0)
    squares = ncsnr_from_trials(trials[:, whole], truth.synthetic_trials) ** 2
    true = truth.ncsnr_synthetic["lh"][whole].astype(float) ** 2
    # The ratio of variances is off by about 0.1 where there is little signal, from 744 trials.
    clear = true > 0.1
    assert np.mean(squares[clear]) == pytest.approx(np.mean(true[clear]), rel=0.1)


def test_stimuli_are_stored_where_the_design_says(tree, files):
    design = read_design(files)
    used = np.unique(design.subject_images[[subject - 1 for subject in SUBJECTS]])
    with h5py.File(files.stimuli) as file:
        bricks = file["imgBrick"]
        assert (bricks.shape[1:], bricks.dtype) == ((64, 64, 3), np.uint8)
        assert bricks.chunks == (1, 64, 64, 3)
        assert bricks.id.get_num_chunks() == len(used)  # the others take no space
        assert min(bricks[int(i)].std() for i in used[::10]) > 0
    for path, count in (
        (files.synthetic_stimuli, 220),
        (files.synthetic_colour_stimuli(2), 64),
    ):
        with h5py.File(path) as file:
            assert file["imgBrick"].shape == (count, 126, 240, 3)


def test_the_truth_reads_synthetic_images_through_their_gamma(tree, files):
    """The drives of uniform colours, which a resize leaves alone, are those of brighter ones."""
    from berg.simulation.nsd_tree.drives import compute_drives
    from berg.stimuli import gamma_corrected

    seen = []

    def spy(images):
        seen.append(images)
        return extract(images)

    design = read_design(files)
    layout = type("Design", (), {"subject_images": design.subject_images, "n_shared": 16})
    found = compute_drives(files, layout, 1, spy, type("Bar", (), {"update": lambda *_: None})())
    np.testing.assert_allclose(found.synthetic, load_truth(tree, 1).drives["synthetic"], atol=1e-5)
    with h5py.File(files.synthetic_stimuli) as file:
        stored = file["imgBrick"][:8].transpose(0, 3, 1, 2)
    wide = np.concatenate([batch for batch in seen if batch.shape[-1] == 240])
    np.testing.assert_array_equal(wide[:8], gamma_corrected(stored))


def test_regions_read_back_as_the_truth_says(tree, files):
    for subject in SUBJECTS:
        truth, found = load_truth(tree, subject), read_rois(files, subject, N_VERTICES)
        for hemi in HEMIS:
            assert found[hemi].keys() == truth.rois[hemi].keys()
            for name, roi in truth.rois[hemi].items():
                np.testing.assert_array_equal(found[hemi][name], roi, err_msg=name)
    lacking = [
        {name for name, roi in load_truth(tree, s).rois["lh"].items() if not len(roi)}
        for s in SUBJECTS
    ]
    assert {"mTL-bodies", "FFA-2"} <= lacking[0] < lacking[1]


@pytest.mark.parametrize("seed", [0, 1])
def test_regions_find_room_for_every_subject(seed):
    """Seed 1's first draw at this level leaves no room for one region of subject 7."""
    for subject in range(1, 9):
        patches = draw_patches(subject, seed, 5)
        assert min(len(patches[hemi]["V1v"]) for hemi in HEMIS) > 0
        assert len(patches["lh"]["nsdgeneral"]) == -(-18461 // 16)  # the card's, at level 5


def test_transforms_count_from_1_and_two_vertices_may_share_one(files):
    for subject, dtype in ((1, ">f4"), (2, ">i4")):
        image = nibabel.load(files.white_to_fsaverage(subject, "lh"))
        assert image.get_data_dtype() == np.dtype(dtype)
        native = np.asarray(image.dataobj).ravel().astype(int)
        n_native = nibabel.load(files.roi_labels(subject, "lh", "streams")).shape[0]
        assert native.shape == (N_VERTICES,)
        assert native.min() >= 1
        assert N_VERTICES < native.max() <= n_native
        assert 0.9 * N_VERTICES < len(np.unique(native)) < N_VERTICES


def test_even_subjects_find_nsdgeneral_on_fsaverage(files):
    assert files.roi_labels(1, "lh", "nsdgeneral").exists()
    assert not files.roi_labels(2, "lh", "nsdgeneral").exists()
    assert files.fsaverage_nsdgeneral("rh").exists()
    assert "OWFA" in files.roi_names(1, "floc-words").read_text()
    gzip.decompress(files.fsaverage_nsdgeneral("lh").read_bytes())


def test_noise_ceilings_are_those_of_a_brain(tree, files):
    truth = load_truth(tree, 1)
    image = nibabel.MGHImage.from_bytes(files.ncsnr(1, "lh").read_bytes())
    stored = np.asarray(image.dataobj).ravel()
    np.testing.assert_array_equal(stored, truth.ncsnr["lh"])
    ceiling = truth.noise_ceiling("lh", "test")
    ncsnr = truth.ncsnr["lh"].astype(float)
    np.testing.assert_allclose(ceiling, ncsnr**2 / (ncsnr**2 + 1 / 3), rtol=1e-5)
    assert 0.3 < np.median(ceiling[ceiling > 0.1]) < 0.5
    assert 0.2 < np.mean(ceiling > 0.1) < 0.5


def test_another_seed_gives_another_tree(tree, tmp_path):
    other = simulate(tmp_path / "t", (2,), seed=4)
    path = NSDFiles(tree).betas(2, "rh", 2).relative_to(tree)
    assert (other / path).read_bytes() != (tree / path).read_bytes()


def test_an_interrupted_tree_is_completed_and_a_complete_one_kept(tree, tmp_path):
    def fail(images):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "t", (1,), extract=fail)
    assert read_marker(tmp_path / "t")
    assert not truth_path(tmp_path / "t", 1).exists()
    files = NSDFiles(simulate(tmp_path / "t", (1,)))
    lost, kept = files.betas(1, "lh", 2), files.betas(1, "rh", 2)
    before, stamp = lost.read_bytes(), kept.stat().st_mtime_ns
    same = (NSDFiles(tree).betas(1, "lh", 2), truth_path(tree, 1))
    assert before == same[0].read_bytes()  # whatever other subjects there are
    assert truth_path(files.nsd_dir, 1).read_bytes() == same[1].read_bytes()
    lost.unlink()
    simulate(tmp_path / "t", (1,), extract=fail)  # nothing goes through the network again
    assert lost.read_bytes() == before
    assert kept.stat().st_mtime_ns == stamp
    assert not list((tmp_path / "t").rglob("*.part"))


def test_nothing_else_is_written_over(tree, tmp_path):
    (tmp_path / "nsddata").mkdir()
    with pytest.raises(InvalidParameterError, match="something else already"):
        simulate(tmp_path)
    with pytest.raises(InvalidParameterError, match=r"another simulated NSD.*\n.*seed=3"):
        simulate(tree, seed=4)
    assert not read_marker(tmp_path)
    assert read_marker(tree)
    marker = json.loads(marker_path(tree).read_text())
    assert marker["trials_per_session"] == N_TRIALS
    assert marker["sessions"] == {"1": 3, "2": 3, "3": 2}


def test_a_marker_without_sessions_is_completed(tree, tmp_path):
    shutil.copytree(tree, tmp_path / "t")
    marker = json.loads(marker_path(tree).read_text())
    older = {name: value for name, value in marker.items() if name != "sessions"}
    marker_path(tmp_path / "t").write_text(json.dumps(older))
    simulate(tmp_path / "t")
    assert read_marker(tmp_path / "t") == marker


def test_a_simulated_tree_without_its_last_session_is_not_complete(tree, tmp_path):
    files = NSDFiles(shutil.copytree(tree, tmp_path / "t"))
    for hemi in HEMIS:
        files.betas(1, hemi, 3).unlink()
    with pytest.raises(NSDFilesNotFoundError, match=r"lh\.betas_session03\.mgh"):
        survey(files.nsd_dir, [1])
    assert survey(files.nsd_dir, [1], 2).subjects[1].n_sessions == 2


def test_too_little_space_is_said_before_anything_is_written(tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 10_000})
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ResourceError, match=r"10\.0 kB free"):
        simulate(tmp_path / "t")
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"subjects": (1, 9)}, "no subject 9"),
        ({"subjects": ()}, "no such tree"),
        ({"level": 2}, "level 3 or more"),
        ({"seed": -1}, "not a seed"),
        ({"n_train": 1}, "no such design"),
        ({"trials_per_session": 75}, "accepted: 32 to 74 trials"),
        ({"level": 8}, "no such level"),
    ],
)
def test_what_cannot_be_simulated_is_refused(tmp_path, changes, match):
    with pytest.raises(InvalidParameterError, match=match):
        simulate(tmp_path / "t", **changes)
    assert not (tmp_path / "t").exists()


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    found = beginning.find_spec
    monkeypatch.setattr(
        beginning, "find_spec", lambda name: found(name) if name != "h5py" else None
    )
    with pytest.raises(MissingExtraError, match=r"berg\[nsd,simulate\]"):
        simulate(tmp_path / "t")


def test_a_truth_that_is_none_is_refused(tmp_path):
    with pytest.raises(NSDFilesNotFoundError, match="no ground truth of subject 5"):
        load_truth(tmp_path, 5)
    path = truth_path(tmp_path, 5)
    path.parent.mkdir()
    path.write_bytes(b"not a zip file")
    with pytest.raises(FileFormatError, match="not the ground truth"):
        load_truth(tmp_path, 5)
    np.savez(path, something=np.arange(3))
    with pytest.raises(FileFormatError, match="not the ground truth"):
        load_truth(tmp_path, 5)
