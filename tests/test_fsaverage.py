import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from berg.errors import InvalidParameterError, MissingExtraError
from berg.surface import fsaverage
from berg.surface.fsaverage import edges, faces, level_of, n_vertices, neighbours, sphere, upsample

SHARED = Path(__file__).parents[2] / "shared" / "data" / "fsaverage"
LEVELS = range(8)


@pytest.mark.parametrize(("hemi", "side"), [("lh", "left"), ("rh", "right")])
def test_sphere_is_freesurfers(hemi, side):
    path = SHARED / f"sphere_{side}.gii.gz"
    if not path.exists():
        pytest.skip("needs FreeSurfer's sphere in ../shared/data/fsaverage")
    import nibabel

    vertices, triangles = nibabel.load(path).agg_data()
    mesh = sphere(hemi)
    np.testing.assert_array_equal(mesh.faces, triangles)
    # FreeSurfer's own radii scatter by 0.01 mm about 100; ours are exact.
    assert np.abs(mesh.vertices - vertices).max() < 0.0101


def test_faces_are_freesurfers_by_their_fingerprint():
    # SHA-256 of the faces of FreeSurfer's fsaverage as int32: what the test above compares.
    digest = hashlib.sha256(faces().astype("<i4").tobytes()).hexdigest()
    assert digest == "e4d1c5eff37285c6ca1e220f48b0346285d74259b8aa0d629e81463e762394aa"


@pytest.mark.parametrize("level", LEVELS)
def test_a_sphere_is_a_closed_surface_with_the_counts_of_its_level(level):
    mesh = sphere("lh", level)
    assert len(mesh.vertices) == n_vertices(level) == 10 * 4**level + 2
    assert mesh.faces.shape == (20 * 4**level, 3)
    assert mesh.faces.dtype == np.int32
    assert mesh.vertices.dtype == np.float32
    assert np.unique(mesh.faces).size == n_vertices(level)
    assert n_vertices(level) - len(edges(level)) + len(mesh.faces) == 2  # Euler
    # 0.01: the scatter of the packaged radii
    np.testing.assert_allclose(np.linalg.norm(mesh.vertices, axis=1), 100, atol=0.01)


@pytest.mark.parametrize("level", LEVELS)
def test_faces_look_outward(level):
    a, b, c = sphere("rh", level).vertices[faces(level)].transpose(1, 0, 2).astype(np.float64)
    assert (np.einsum("ij,ij->i", np.cross(b - a, c - a), a) > 0).all()


@pytest.mark.parametrize("level", LEVELS[1:])
def test_levels_are_nested_and_new_vertices_halve_edges(level):
    coarse, fine = sphere("rh", level - 1).vertices, sphere("rh", level).vertices
    np.testing.assert_array_equal(fine[: len(coarse)], coarse)
    middles = coarse[edges(level - 1)].astype(np.float64).mean(axis=1)
    middles *= 100 / np.linalg.norm(middles, axis=1, keepdims=True)
    # Levels up to 5 come from FreeSurfer's file, whose coordinates are rounded to 0.01 mm
    # (0.0092 was measured); the finer ones differ by float32 rounding.
    np.testing.assert_allclose(fine[len(coarse) :], middles, atol=0.01 if level <= 5 else 1e-5)


@pytest.mark.parametrize("level", range(5))
def test_coarse_faces_subdivide_back_to_the_packaged_ones(level):
    np.testing.assert_array_equal(fsaverage._subdivide(faces(level))[0], faces(level + 1))


def test_results_are_shared_and_cannot_be_changed():
    mesh = sphere("lh", 3)
    assert sphere("lh", 3) is mesh
    for array in (mesh.vertices, mesh.faces, edges(3), neighbours(3).indices):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_neighbours_are_the_edges_both_ways():
    mesh = neighbours(3)
    pairs = {(v, w) for v in range(642) for w in mesh.of(v)}
    ends = edges(3).tolist()
    assert pairs == {(a, b) for a, b in ends} | {(b, a) for a, b in ends}
    assert sorted(np.diff(mesh.indptr).tolist()) == [5] * 12 + [6] * 630
    assert all(mesh.of(v) == sorted(mesh.of(v)) for v in range(642))


def test_upsample_keeps_old_values_and_takes_means():
    values = np.random.default_rng(0).standard_normal((42, 3)).astype(np.float32)
    finer = upsample(values, level=2)
    assert finer.shape == (162, 3)
    assert finer.dtype == np.float32
    np.testing.assert_array_equal(finer[:42], values)
    # float32 rounding of a sum of two values of order 1
    np.testing.assert_allclose(finer[42:], values[edges(1)].mean(axis=1), atol=1e-6)
    np.testing.assert_array_equal(upsample(values[:, 0], level=2), finer[:, 0])


def test_upsample_of_integers_does_not_truncate():
    values = np.zeros(12, dtype=np.int64)
    values[0] = 1
    assert set(upsample(values, level=1)[12:].tolist()) == {0.0, 0.5}


@given(start=st.integers(0, 3), steps=st.integers(0, 2), seed=st.integers(0, 2**32 - 1))
def test_upsample_is_linear_and_stays_within_range(start, steps, seed):
    values = np.random.default_rng(seed).standard_normal(n_vertices(start))
    finer = upsample(values, start + steps)
    assert finer.min() == values.min()
    assert finer.max() == values.max()
    # float64 rounding of sums of order 1
    np.testing.assert_allclose(upsample(3 * values + 1, start + steps), 3 * finer + 1, atol=1e-12)


def test_upsample_refuses_a_coarser_level_and_a_count_of_no_level():
    with pytest.raises(InvalidParameterError, match="only to a finer level"):
        upsample(np.zeros(642), level=2)
    with pytest.raises(InvalidParameterError, match="no fsaverage level has this many"):
        upsample(np.zeros(643))


def test_level_of_inverts_n_vertices():
    assert [level_of(n_vertices(level)) for level in LEVELS] == list(LEVELS)


@pytest.mark.parametrize("level", [-1, 8, 2.5, "7"])
def test_unknown_level(level):
    with pytest.raises(InvalidParameterError, match="no such level"):
        sphere("lh", level)


def test_unknown_hemisphere():
    with pytest.raises(InvalidParameterError, match=r"(?s)unknown hemisphere.*'left'.*'lh', 'rh'"):
        sphere("left")


def test_without_nilearn_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(fsaverage, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"berg\[simulate\]"):
        fsaverage.load_packaged.__wrapped__("lh", "sphere")
