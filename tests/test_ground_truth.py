import numpy as np
import pytest

from berg.simulation.ground_truth import (
    PRODUCT_SHARE,
    GroundTruth,
    draw_ground_truth,
    draw_region_readouts,
    drives,
)
from berg.surface.fsaverage import edges, n_vertices, sphere

LEVEL = 5
N_SCORES = 8
N_DRIVES = 2 * N_SCORES


@pytest.fixture
def amplitudes():
    return np.full(N_DRIVES, N_DRIVES**-0.5)


@pytest.fixture
def reference():
    return drives(np.random.default_rng(8).standard_normal((60, N_SCORES)))


@pytest.fixture
def rois():
    """A disc of 1,200 vertices around vertex 0, and one half of it."""
    points = sphere("lh", LEVEL).vertices
    disc = np.sort(np.argsort(np.linalg.norm(points - points[0], axis=1))[:1200])
    return {"nsdgeneral": disc, "V1v": disc[::2], "FBA-2": disc[:0]}


def draw(rois, reference, amplitudes, seed=0):
    rng = np.random.default_rng(seed)
    readouts = draw_region_readouts(rois, amplitudes, rng)
    return draw_ground_truth(rois, readouts, reference, amplitudes, rng, LEVEL)


def test_signal_has_variance_one_over_the_reference_images(rois, reference, amplitudes):
    truth = draw(rois, reference, amplitudes)
    assert truth.readout.shape == (n_vertices(LEVEL), N_DRIVES)
    # float32 readouts of 16 drives
    np.testing.assert_allclose(np.var(reference @ truth.readout.T, axis=0), 1, rtol=1e-5)


def test_products_have_their_share_of_the_signal(rois, reference, amplitudes):
    readout = draw(rois, reference, amplitudes).readout
    linear, products = (
        np.var(reference[:, part] @ readout[:, part].T, axis=0)
        for part in (slice(N_SCORES), slice(N_SCORES, None))
    )
    np.testing.assert_allclose(products / (linear + products), PRODUCT_SHARE, rtol=1e-5)


def test_drives_are_linear_near_zero_bounded_and_multiply_neighbours():
    scores = np.array([[0.01, 0.02, -0.01], [1.0, -2.0, 3.0], [-50.0, 1e6, 0.0]])
    found = drives(scores)
    assert found.shape == (3, 6)
    np.testing.assert_allclose(found[0, :3], scores[0], rtol=1e-3)  # tanh x is x - x**3 / 3
    assert np.abs(found[:, :3]).max() <= 2
    assert np.abs(found[:, 3:]).max() <= 4
    by_hand = 2 * np.tanh(scores[1] / 2)
    products = [by_hand[0] * by_hand[2], by_hand[1] * by_hand[0], by_hand[2] * by_hand[1]]
    np.testing.assert_allclose(found[1], [*by_hand, *products])


def test_signal_and_noise_make_a_trial_of_variance_one():
    truth = GroundTruth(np.zeros((3, 1), np.float32), np.array([0, 0.5, 2], np.float32))
    np.testing.assert_allclose(truth.signal_sd**2 + truth.noise_sd**2, 1, rtol=1e-6)  # float32
    np.testing.assert_allclose(truth.signal_sd / truth.noise_sd, truth.ncsnr, rtol=1e-6)


def test_reliability_is_high_in_visual_cortex_and_fades(rois, reference, amplitudes):
    ceiling = 1 / (1 + 1 / (3 * draw(rois, reference, amplitudes).ncsnr.astype(float) ** 2 + 1e-12))
    far = np.setdiff1d(np.arange(n_vertices(LEVEL)), rois["nsdgeneral"])
    assert 0.25 < np.median(ceiling[rois["nsdgeneral"]]) < 0.7
    assert ceiling.max() < 0.75
    assert np.median(ceiling[far]) < 0.1
    assert 0.02 < (ceiling < 1e-6).mean() < 0.6  # some vertices have no signal at all


def test_neighbours_agree_and_strangers_do_not(rois, reference, amplitudes):
    signal = reference @ draw(rois, reference, amplitudes).readout.T
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


def test_ground_truth_is_seeded(rois, reference, amplitudes):
    one, two, other = (draw(rois, reference, amplitudes, seed) for seed in (0, 0, 1))
    assert (one.readout == two.readout).all()
    assert (one.ncsnr == two.ncsnr).all()
    assert not np.allclose(one.ncsnr, other.ncsnr)


def test_no_region_at_all_leaves_little_signal(reference, amplitudes):
    truth = draw({"V1v": np.arange(0)}, reference, amplitudes)
    assert truth.ncsnr.max() < 0.3
