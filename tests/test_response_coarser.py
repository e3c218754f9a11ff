from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from berg.errors import InvalidParameterError
from berg.responses import Readout, Responses
from berg.responses.coarser import coarser_readout
from berg.surface.fsaverage import edges, n_vertices, sphere, upsample


def make_readout(rng, lh_vertices, rh_vertices, n_components=3):
    parts = {}
    for hemi, vertices in (("lh", lh_vertices), ("rh", rh_vertices)):
        parts[f"{hemi}_coef"] = rng.standard_normal((len(vertices), n_components), np.float32)
        parts[f"{hemi}_intercept"] = rng.standard_normal(len(vertices), np.float32)
        parts[f"{hemi}_vertices"] = np.asarray(vertices, dtype=np.int64)
    return Readout(**parts)


def whole_readout(rng, level, n_components=3):
    vertices = np.arange(n_vertices(level))
    return make_readout(rng, vertices, vertices, n_components)


def averaged_by_hand(values: dict[int, float], level: int) -> dict[int, float]:
    """Average a map {vertex: value} to a level, from the one above, edge by edge."""
    count = n_vertices(level)
    sums = {v: Fraction(value) for v, value in values.items() if v < count}
    weights = dict.fromkeys(sums, Fraction(1))
    for i, ends in enumerate(edges(level).tolist()):
        midpoint = values.get(count + i)
        for end in ends:
            if midpoint is not None and end in sums:
                sums[end] += Fraction(midpoint) / 2
                weights[end] += Fraction(1, 2)
    return {v: float(sums[v] / weights[v]) for v in sums}


def materialised(readout, scores, hemi):
    return scores @ readout.coef(hemi).T.astype(np.float64) + readout.intercept(hemi)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), share=st.sampled_from([0.0, 0.02, 0.5, 0.95, 1.0]))
def test_averaging_the_readout_averages_the_maps(seed, share):
    rng = np.random.default_rng(seed)
    lh = rng.permutation(np.flatnonzero(rng.uniform(size=642) < share))  # in any order
    readout = make_readout(rng, lh, np.arange(642))
    scores = rng.standard_normal((2, 3))
    coarse = coarser_readout(readout, "fsaverage1", "mean", from_mesh="fsaverage3")
    for hemi in ("lh", "rh"):
        vertices = readout.vertices(hemi)
        kept = [v for v in vertices.tolist() if v < 42]
        np.testing.assert_array_equal(coarse.vertices(hemi), kept)
        for row, fine in enumerate(materialised(readout, scores, hemi)):
            values = dict(zip(vertices.tolist(), fine.tolist(), strict=True))
            expected = averaged_by_hand(averaged_by_hand(values, 2), 1)
            # 1e-5: float32 coefficients of order 1
            np.testing.assert_allclose(
                materialised(coarse, scores, hemi)[row], [expected[v] for v in kept], atol=1e-5
            )


@pytest.mark.parametrize("mesh", ["fsaverage1", "fsaverage0"])
def test_a_slice_is_the_first_vertices(rng, mesh):
    count = {"fsaverage1": 42, "fsaverage0": 12}[mesh]
    lh = np.array([600, 3, 11, 12, 41, 42])
    readout = make_readout(rng, lh, np.arange(642))
    coarse = coarser_readout(readout, mesh, "slice", from_mesh="fsaverage3")
    np.testing.assert_array_equal(coarse.lh_vertices, lh[lh < count])
    np.testing.assert_array_equal(coarse.lh_coef, readout.lh_coef[lh < count])
    np.testing.assert_array_equal(coarse.rh_coef, readout.rh_coef[:count])
    np.testing.assert_array_equal(coarse.rh_intercept, readout.rh_intercept[:count])


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_constant_map_stays_constant(rng, share):
    vertices = np.flatnonzero(rng.uniform(size=642) < share)
    coef = np.ones((len(vertices), 2), np.float32)
    readout = Readout(coef, coef[:, 0], coef, coef[:, 0], vertices, vertices)
    coarse = coarser_readout(readout, "fsaverage0", "mean", from_mesh="fsaverage3")
    np.testing.assert_array_equal(coarse.lh_coef, np.ones_like(coarse.lh_coef))
    np.testing.assert_array_equal(coarse.rh_intercept, np.ones_like(coarse.rh_intercept))


def test_a_smooth_map_comes_back_from_a_finer_mesh():
    # Height over the sphere: smooth, so that interpolating and averaging back changes it little.
    smooth = (sphere("lh", 4).vertices[:, 2:] / 100).astype(np.float32)
    fine = upsample(smooth, 6)
    vertices = np.arange(n_vertices(6))
    zero = np.zeros(len(vertices), np.float32)
    readout = Readout(fine, zero, fine, zero, vertices, vertices)
    coarse = coarser_readout(readout, "fsaverage4", "mean", from_mesh="fsaverage6")
    # Edges at level 4 are 0.07 long: neighbours are a fraction of that off centre.
    np.testing.assert_allclose(coarse.lh_coef, smooth, atol=5e-3)
    assert np.abs(coarse.lh_coef - smooth).max() > 1e-5  # it is a mean


def test_from_the_full_mesh_over_the_mesh_between(rng):
    vertices = np.arange(n_vertices(7))
    readout = make_readout(rng, vertices, vertices[:0], n_components=2)
    at_once = coarser_readout(readout, "fsaverage5", "mean")
    step = coarser_readout(readout, "fsaverage6", "mean")
    by_steps = coarser_readout(step, "fsaverage5", "mean", from_mesh="fsaverage6")
    assert at_once.lh_coef.shape == (10242, 2)
    assert at_once.rh_coef.shape == (0, 2)
    assert at_once.lh_coef.dtype == np.float32
    # 1e-6: the level between is rounded to float32 once more
    np.testing.assert_allclose(at_once.lh_coef, by_steps.lh_coef, atol=1e-6)
    # A vertex that ends six edges, of the finest level only: itself and six midpoints
    ends = edges(6)
    midpoints = n_vertices(6) + np.flatnonzero((ends == 100).any(axis=1))
    assert len(midpoints) == 6
    expected = (readout.lh_coef[100] + readout.lh_coef[midpoints].sum(axis=0) / 2) / 4
    np.testing.assert_allclose(step.lh_coef[100], expected, atol=1e-6)


def test_responses_on_a_coarser_mesh_are_the_mean_of_their_maps(rng):
    vertices = np.arange(n_vertices(7))
    readout = make_readout(rng, vertices, vertices, n_components=2)
    responses = Responses(rng.standard_normal((2, 2), np.float32), readout)
    coarse = responses.to_fsaverage6("mean")
    assert coarse.mesh == "fsaverage6"
    fine = responses.lh[1]
    picked = [0, 11, 12, 5000, 40961]
    midpoints = n_vertices(6) + np.flatnonzero(np.isin(edges(6), picked).any(axis=1))
    expected = averaged_by_hand({v: float(fine[v]) for v in [*picked, *midpoints.tolist()]}, 6)
    # 1e-5: float32 responses of order 1
    np.testing.assert_allclose(coarse.lh[1][picked], [expected[v] for v in picked], atol=1e-5)
    np.testing.assert_array_equal(responses.to_fsaverage5().rh[0], responses.rh[0][:10242])


@pytest.mark.parametrize("how", ["slice", "mean"])
@pytest.mark.parametrize("mesh", ["fsaverage5", "fsaverage3"])
def test_a_mesh_that_is_not_coarser_is_refused(rng, mesh, how):
    with pytest.raises(
        InvalidParameterError, match=r"is not coarser than fsaverage3(.*\n)+.*642 vertices"
    ):
        coarser_readout(whole_readout(rng, 3), mesh, how, from_mesh="fsaverage3")


def test_what_is_unknown_is_refused(rng):
    readout = whole_readout(rng, 1)
    with pytest.raises(InvalidParameterError, match=r"no way 'means'(.*)Did you mean 'mean'"):
        coarser_readout(readout, "fsaverage0", "means")
    with pytest.raises(InvalidParameterError, match="no mesh 'fsaverage 5'"):
        coarser_readout(readout, "fsaverage 5")
    with pytest.raises(InvalidParameterError, match=r"not those of fsaverage1(.*\n)+.*vertex 161"):
        coarser_readout(whole_readout(rng, 2), "fsaverage0", from_mesh="fsaverage1")
