import numpy as np
import pytest

from berg.surface.fsaverage import PACKAGED_LEVEL, faces, load_packaged, n_vertices, upsample
from berg.surface.geometry import flat_surface, subdivided, vertex_normals
from berg.surface.raster import surface_view


def area(vertices, triangles):
    a, b, c = (vertices[triangles[:, corner]].astype(np.float64) for corner in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2


def test_all_faces_subdivided_are_all_faces():
    np.testing.assert_array_equal(subdivided(faces(PACKAGED_LEVEL)), faces())


@pytest.mark.parametrize("hemi", ["lh", "rh"])
def test_the_flat_surface_has_the_area_of_the_packaged_one(hemi):
    vertices, drawn = load_packaged(hemi, "flat")
    surface = flat_surface(hemi)
    assert len(surface.faces) == 16 * len(drawn) < len(faces())
    # Each face falls into 16 in its own plane: float32 rounding of positions up to 160 mm.
    np.testing.assert_allclose(
        area(surface.vertices, surface.faces), area(vertices, drawn), rtol=1e-5
    )


@pytest.mark.parametrize("hemi", ["lh", "rh"])
def test_faces_across_a_cut_are_not_drawn(hemi):
    drawn = load_packaged(hemi, "flat")[1]
    on_it = np.zeros(10_242)
    on_it[drawn] = 1
    seen = surface_view(hemi, "flat", 2.0)
    # What lies on the flat map has no corner among the vertices that the cuts took away.
    np.testing.assert_allclose(seen.sample(upsample(on_it)), 1.0, atol=1e-6)  # float32 rounding
    assert (seen.light == 1).all()


def test_normals_of_a_ball_point_outward():
    vertices, triangles = load_packaged("lh", "sphere")
    normals = vertex_normals(vertices, triangles)
    # Faces of 10 mm on a radius of 100 mm: within 2 degrees of the radius.
    assert (normals * vertices).sum(axis=1).min() > 100 * np.cos(np.radians(2))
    assert len(normals) == n_vertices(PACKAGED_LEVEL)
