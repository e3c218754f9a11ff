import numpy as np
import pytest

from berg.simulation.ground_truth import GroundTruth, draw_ground_truth, draw_region_readouts
from berg.surface.fsaverage import edges, n_vertices, sphere

LEVEL = 5
N_SCORES = 8


@pytest.fixture
def amplitudes():
    return np.full(N_SCORES, N_SCORES**-0.5)


@pytest.fixture
def scores():
    rng = np.random.default_rng(8)
    return rng.standard_normal((60, N_SCORES)) @ rng.standard_normal((N_SCORES, N_SCORES))


@pytest.fixture
def rois():
    """A disc of 1,200 vertices around vertex 0, and one half of it."""
    points = sphere("lh", LEVEL).vertices
    disc = np.sort(np.argsort(np.linalg.norm(points - points[0], axis=1))[:1200])
    return {"nsdgeneral": disc, "V1v": disc[::2], "FBA-2": disc[:0]}


def draw(rois, scores, amplitudes, seed=0):
    rng = np.random.default_rng(seed)
    readouts = draw_region_readouts(rois, amplitudes, rng)
    return draw_ground_truth(rois, readouts, scores, amplitudes, rng, LEVEL)


def test_signal_has_variance_one_over_the_reference_images(rois, scores, amplitudes):
    truth = draw(rois, scores, amplitudes)
    assert truth.readout.shape == (n_vertices(LEVEL), N_SCORES)
    # float32 readouts of 8 scores
    np.testing.assert_allclose(np.var(scores @ truth.readout.T, axis=0), 1, rtol=1e-5)


def test_signal_and_noise_make_a_trial_of_variance_one():
    truth = GroundTruth(np.zeros((3, 1), np.float32), np.array([0, 0.5, 2], np.float32))
    np.testing.assert_allclose(truth.signal_sd**2 + truth.noise_sd**2, 1, rtol=1e-6)  # float32
    np.testing.assert_allclose(truth.signal_sd / truth.noise_sd, truth.ncsnr, rtol=1e-6)


def test_reliability_is_high_in_visual_cortex_and_fades(rois, scores, amplitudes):
    ceiling = 1 / (1 + 1 / (3 * draw(rois, scores, amplitudes).ncsnr.astype(float) ** 2 + 1e-12))
    far = np.setdiff1d(np.arange(n_vertices(LEVEL)), rois["nsdgeneral"])
    assert 0.25 < np.median(ceiling[rois["nsdgeneral"]]) < 0.7
    assert ceiling.max() < 0.75
    assert np.median(ceiling[far]) < 0.1
    assert 0.02 < (ceiling < 1e-6).mean() < 0.6  # some vertices have no signal at all


def test_neighbours_agree_and_strangers_do_not(rois, scores, amplitudes):
    signal = scores @ draw(rois, scores, amplitudes).readout.T
    signal = (signal - signal.mean(axis=0)) / signal.std(axis=0)
    a, b = edges(LEVEL).T
    strangers = np.random.default_rng(1).permutation(n_vertices(LEVEL))
    assert np.mean(signal[:, a] * signal[:, b]) > 0.8  # fields are drawn at a quarter of the grain
    assert abs(np.mean(signal * signal[:, strangers])) < 0.1


def test_parts_of_one_area_share_a_readout(amplitudes):
    names = dict.fromkeys(["V1v", "V1d", "V2v", "hV4", "FFA-1", "FFA-2", "mTL-faces", "mTL-words"])
    readouts = draw_region_readouts(names, amplitudes, np.random.default_rng(0))
    assert list(readouts) == list(names)
    assert (readouts["V1v"] == readouts["V1d"]).all()
    assert (readouts["FFA-1"] == readouts["FFA-2"]).all()
    assert len({readout.tobytes() for readout in readouts.values()}) == 6


def test_ground_truth_is_seeded(rois, scores, amplitudes):
    one, two, other = (draw(rois, scores, amplitudes, seed) for seed in (0, 0, 1))
    assert (one.readout == two.readout).all()
    assert (one.ncsnr == two.ncsnr).all()
    assert not np.allclose(one.ncsnr, other.ncsnr)


def test_no_region_at_all_leaves_little_signal(scores, amplitudes):
    truth = draw({"V1v": np.arange(0)}, scores, amplitudes)
    assert truth.ncsnr.max() < 0.3
