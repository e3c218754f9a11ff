import gzip
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from berg.errors import FileFormatError, InvalidParameterError, OfflineError, ResourceError
from berg.surface.fsaverage import faces, load_packaged, upsample
from berg.surface.full_mesh import FullMesh, choose_mesh, find_full_mesh, sulcal_depth
from berg.surface.geometry import flat_surface
from berg.surface.raster import surface_view

REAL = Path(__file__).parents[2] / "shared" / "data" / "fsaverage"


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch, tmp_path):
    """A machine that has fsaverage nowhere, and no network."""
    for name in ("BERG_FSAVERAGE_DIR", "SUBJECTS_DIR", "NILEARN_SHARED_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NILEARN_DATA", str(tmp_path / "nilearn"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BERG_OFFLINE", "1")


@pytest.fixture(scope="module")
def freesurfer(tmp_path_factory):
    """A $SUBJECTS_DIR whose fsaverage is the packaged one, subdivided and 10 mm higher."""
    root = tmp_path_factory.mktemp("subjects")
    folder = root / "fsaverage" / "surf"
    folder.mkdir(parents=True)
    for hemi in ("lh", "rh"):
        vertices = upsample(load_packaged(hemi, "infl")[0]) + np.array([0, 0, 10.0])
        nibabel.freesurfer.write_geometry(folder / f"{hemi}.inflated", vertices, faces())
        depth = upsample(load_packaged(hemi, "sulc")[0])
        nibabel.freesurfer.write_morph_data(folder / f"{hemi}.sulc", depth)
    return root


def test_fsaverage5_needs_nothing():
    assert choose_mesh("fsaverage5") is None


def test_an_unknown_mesh():
    with pytest.raises(InvalidParameterError, match=r"'fsaverge'(.*\n)*.*mean 'fsaverage'\?"):
        choose_mesh("fsaverge")


@pytest.mark.parametrize("how", ["argument", "variable", "subjects"])
def test_freesurfers_folder_is_found_and_read(how, freesurfer, monkeypatch):
    argument = freesurfer if how == "argument" else None
    if how == "variable":
        monkeypatch.setenv("BERG_FSAVERAGE_DIR", str(freesurfer / "fsaverage"))
    if how == "subjects":
        monkeypatch.setenv("SUBJECTS_DIR", str(freesurfer))
    found = choose_mesh("fsaverage", argument)
    assert found == FullMesh((freesurfer / "fsaverage" / "surf").resolve(), by_freesurfer=True)
    assert not found.has_flat
    vertices, triangles = found.load("lh", "infl")
    np.testing.assert_array_equal(triangles, faces())
    expected = upsample(load_packaged("lh", "infl")[0]) + np.array([0, 0, 10.0])
    np.testing.assert_allclose(vertices, expected, atol=1e-4)  # float32 of up to 120 mm
    # The same surface elsewhere in space gives the same picture, but for the finer normals.
    ours, packaged = (surface_view("lh", "lateral", 2.0, full) for full in (found, None))
    assert ours.shape == packaged.shape
    np.testing.assert_array_equal(ours.pixels, packaged.pixels)
    np.testing.assert_allclose(
        sulcal_depth("rh", found), sulcal_depth("rh"), atol=1e-6
    )  # float32 rounding


def test_the_real_surfaces():
    if not REAL.is_dir():
        pytest.skip("the full fsaverage is not in ../shared/data/fsaverage")
    found = find_full_mesh(REAL)
    assert not found.by_freesurfer
    assert not found.has_flat
    ours, packaged = (surface_view("rh", "medial", 2.0, full) for full in (found, None))
    heights = []
    for seen in (ours, packaged):
        picture = np.full(ours.shape, np.nan)
        rows, columns = np.divmod(seen.pixels, seen.shape[1])
        inside = (rows < ours.shape[0]) & (columns < ours.shape[1])
        drawn = seen.sample(upsample(load_packaged("rh", "infl")[0][:, 2]))
        picture[rows[inside], columns[inside]] = drawn[inside]
        heights.append(picture)
    # Both meshes are of one surface: nearly all pixels show the same place within 2 mm.
    close = np.abs(heights[0] - heights[1])
    assert (close[np.isfinite(close)] < 2).mean() > 0.95


def test_nowhere_and_offline_names_the_ways():
    with pytest.raises(OfflineError, match=r"BERG_OFFLINE(.*\n)+.*--mesh-dir(.*\n)+.*SUBJECTS_DIR"):
        find_full_mesh()


def test_a_folder_without_surfaces(tmp_path):
    with pytest.raises(ResourceError, match=r"no surfaces of fsaverage\n(.*\n)*.*lh\.inflated"):
        find_full_mesh(tmp_path)


def test_a_failed_download_names_the_ways(monkeypatch):
    def fail(mesh):
        raise OSError("no route to host")

    monkeypatch.setenv("BERG_OFFLINE", "0")
    monkeypatch.setattr("nilearn.datasets.fetch_surf_fsaverage", fail)
    with pytest.raises(ResourceError, match=r"no route to host\n(.*\n)*.*--mesh-dir"):
        find_full_mesh()


def test_what_nilearn_downloads_is_taken(monkeypatch, freesurfer):
    monkeypatch.setenv("BERG_OFFLINE", "0")
    folder = freesurfer / "fsaverage" / "surf"
    monkeypatch.setattr(
        "nilearn.datasets.fetch_surf_fsaverage", lambda mesh: {"infl_left": folder / "x"}
    )
    assert find_full_mesh().folder == folder.resolve()


def test_damaged_and_wrong_files(tmp_path, freesurfer):
    for hemi, side in (("lh", "left"), ("rh", "right")):
        packaged = nibabel.gifti.GiftiImage(
            darrays=[nibabel.gifti.GiftiDataArray(part) for part in load_packaged(hemi, "infl")]
        )
        nibabel.save(packaged, tmp_path / f"infl_{side}.gii.gz")
    coarse = find_full_mesh(tmp_path)
    with pytest.raises(FileFormatError, match=r"not a surface of fsaverage\n.*\(10242, 3\)"):
        coarse.load("lh", "infl")
    one = nibabel.gifti.GiftiDataArray(np.zeros((3, 3), np.float32))
    nibabel.save(nibabel.gifti.GiftiImage(darrays=[one]), tmp_path / "sulc_left.gii.gz")
    shutil.copy(tmp_path / "sulc_left.gii.gz", tmp_path / "infl_right.gii.gz")
    with pytest.raises(FileFormatError, match=r"not a map of fsaverage\n.*\(3, 3\)"):
        coarse.load_sulci("lh")
    with pytest.raises(FileFormatError, match=r"not a surface of fsaverage\n.*\(3, 3\)"):
        coarse.load("rh", "infl")
    np.testing.assert_array_equal(coarse.load_sulci("rh"), sulcal_depth("rh"))  # has no file
    with gzip.open(tmp_path / "infl_left.gii.gz", "wb") as file:
        file.write(b"<GIFTI")
    with pytest.raises(FileFormatError, match=r"infl_left\.gii\.gz cannot be read"):
        coarse.load("lh", "infl")
    broken = tmp_path / "surf"
    shutil.copytree(freesurfer / "fsaverage" / "surf", broken)
    (broken / "lh.inflated").write_bytes(b"\xff\xff\xfe broken")
    with pytest.raises(FileFormatError, match=r"lh\.inflated cannot be read"):
        FullMesh(broken, by_freesurfer=True).load("lh", "infl")


def test_a_flat_map_is_taken_where_there_is_one(tmp_path):
    """A flat map of the full mesh, made of fsaverage5's: half as large, and a part of it."""
    for hemi, side in (("lh", "left"), ("rh", "right")):
        vertices = (upsample(load_packaged(hemi, "flat")[0]) / 2).astype(np.float32)
        drawn = flat_surface(hemi).faces[:2000]
        for surface, triangles in (("flat", drawn), ("infl", faces())):
            arrays = [nibabel.gifti.GiftiDataArray(part) for part in (vertices, triangles)]
            nibabel.save(
                nibabel.gifti.GiftiImage(darrays=arrays), tmp_path / f"{surface}_{side}.gii.gz"
            )
    found = find_full_mesh(tmp_path)
    assert found.has_flat
    surface = flat_surface("lh", found)
    np.testing.assert_array_equal(surface.faces, flat_surface("lh").faces[:2000])
    np.testing.assert_allclose(surface.vertices, flat_surface("lh").vertices / 2, rtol=1e-6)
    seen = surface_view("lh", "flat", 1.0, found)
    assert np.isin(seen.corners, surface.faces).all()
    assert len(seen.pixels) > 100
