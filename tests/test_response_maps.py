import gzip
import json
import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nilearn.surface import load_surf_data

from berg import resources
from berg.errors import InvalidParameterError, MissingExtraError, ResourceError
from berg.responses import Readout, Responses, SurfaceMap, maps, surface_files
from berg.responses.image_maps import short_name, write_image_maps
from berg.responses.meshes import MESHES, mesh_level, mesh_name, mesh_of_size, mesh_size
from berg.responses.surface_files import safe_name
from berg.surface.fsaverage import faces, load_packaged, sphere

N_VERTICES = 42  # of fsaverage1
SIDES = {"lh": "left", "rh": "right"}
STRUCTURES = {"lh": "CortexLeft", "rh": "CortexRight"}


@pytest.fixture
def surface_map(rng):
    return SurfaceMap(
        lh=rng.standard_normal(3, dtype=np.float32),
        rh=rng.standard_normal(N_VERTICES, dtype=np.float32),
        lh_vertices=np.array([7, 0, 41]),
        rh_vertices=np.arange(N_VERTICES),
        name="photos/größe <&>.jpg",
        units="z²",
        mesh="fsaverage1",
        provenance={"subject": 1, "rois": ["V1v"], "note": "größe"},
    )


@pytest.fixture
def responses(rng):
    """Responses of 40 + 0 vertices to five images, of which two have one name."""
    coef = rng.standard_normal((40, 3), dtype=np.float32)
    intercept = rng.standard_normal(40, dtype=np.float32)
    return Responses(
        rng.standard_normal((5, 3), dtype=np.float32),
        Readout(coef, intercept, coef[:0], intercept[:0], np.arange(2, 42), np.arange(0)),
        names=["a/cat.jpg", "b/cat.jpg", "x.hdf5:imgBrick[3]", "größe", "x" * 300],
        mesh="fsaverage1",
        provenance={"model_id": "m"},
    )


def whole_by_hand(values, vertices, n_vertices, fill=np.nan):
    whole = [fill] * n_vertices
    for value, vertex in zip(values, vertices, strict=True):
        whole[vertex] = value
    return np.array(whole, dtype=values.dtype)


def test_a_map_is_two_arrays(surface_map):
    lh, rh = surface_map
    assert lh is surface_map.lh
    assert rh is surface_map.rh
    assert "3 + 42 vertices of fsaverage1" in repr(surface_map)


@pytest.mark.parametrize("fill", [np.nan, 0.0])
def test_whole_has_every_vertex(surface_map, fill):
    lh, rh = surface_map.whole(fill)
    np.testing.assert_array_equal(
        lh, whole_by_hand(surface_map.lh, surface_map.lh_vertices, N_VERTICES, fill)
    )
    np.testing.assert_array_equal(rh, surface_map.rh)
    assert lh.dtype == np.float32
    rh[:] = 5  # a new array, also where every vertex is selected
    assert surface_map.rh[0] != 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lh": np.zeros(2)}, r"lh map is not one number per vertex(.*\n)+.*\(2,\)"),
        ({"rh": np.zeros((1, N_VERTICES))}, "rh map is not one number"),
        ({"lh": np.zeros(3, dtype=int)}, "int64 values"),
        ({"lh_vertices": np.array([0, 1, 42])}, r"no such vertices(.*\n)+.*0 to 41"),
        ({"lh_vertices": np.array([-1, 1, 2])}, "no such vertices"),
        ({"mesh": "fsaverage_5"}, "no mesh 'fsaverage_5'. Did you mean"),
    ],
)
def test_what_is_no_map_is_refused(surface_map, change, message):
    fields = {name: getattr(surface_map, name) for name in surface_map.__dataclass_fields__}
    with pytest.raises(InvalidParameterError, match=message):
        SurfaceMap(**fields | change)


def test_gifti_is_read_back_by_nibabel_and_nilearn(tmp_path, surface_map):
    paths = surface_map.to_gifti(tmp_path / "new")
    assert [path.name for path in paths] == [
        "lh.subject-01_photos-größe-.jpg.func.gii",
        "rh.subject-01_photos-größe-.jpg.func.gii",
    ]
    assert sorted(paths) == sorted((tmp_path / "new").iterdir())
    for hemi, path, expected in zip(SIDES, paths, surface_map.whole(), strict=True):
        image = nibabel.load(path)
        (array,) = image.darrays
        np.testing.assert_array_equal(array.data, expected)
        assert array.data.dtype == np.float32
        assert array.intent == 0  # NIFTI_INTENT_NONE
        assert b"CoordinateSystem" not in path.read_bytes()
        assert dict(array.meta) == {"Name": surface_map.name, "Units": "z²"}
        assert image.meta["AnatomicalStructurePrimary"] == STRUCTURES[hemi]
        assert image.meta["Name"] == surface_map.name
        assert image.meta["Units"] == "z²"
        assert image.meta["Mesh"] == "fsaverage1"
        assert json.loads(image.meta["Provenance"]) == surface_map.provenance
        np.testing.assert_array_equal(load_surf_data(path), expected)


def test_mgh_is_read_back_by_nibabel_and_nilearn(tmp_path, surface_map):
    paths = surface_map.to_mgh(tmp_path)
    assert [path.suffix for path in paths] == [".mgh", ".mgh"]
    for path, expected in zip(paths, surface_map.whole(), strict=True):
        image = nibabel.MGHImage.from_bytes(path.read_bytes())
        assert image.shape == (N_VERTICES, 1, 1)
        assert image.get_data_dtype() == np.dtype(">f4")
        np.testing.assert_array_equal(np.asarray(image.dataobj)[:, 0, 0], expected)
        # nilearn knows the format by its compressed files' ending
        compressed = path.with_suffix(".mgz")
        compressed.write_bytes(gzip.compress(path.read_bytes()))
        np.testing.assert_array_equal(load_surf_data(compressed), expected)


def test_a_float64_map_is_written_in_single_precision(tmp_path):
    vertices = np.arange(12)
    third = SurfaceMap(
        np.full(12, 1 / 3), np.full(12, 1 / 3), vertices, vertices, "third", "1", "fsaverage0"
    )
    for path in (*third.to_gifti(tmp_path), *third.to_mgh(tmp_path)):
        np.testing.assert_array_equal(load_surf_data_of(path), np.full(12, 1 / 3, np.float32))


def load_surf_data_of(path):
    if path.suffix == ".gii":
        return nibabel.load(path).agg_data()
    # nibabel leaves an MGH file that it opens itself open
    return np.asarray(nibabel.MGHImage.from_bytes(path.read_bytes()).dataobj).ravel()


@pytest.mark.parametrize("kind", ["to_gifti", "to_mgh"])
def test_a_hemisphere_without_vertices_has_a_file_of_nan(tmp_path, kind):
    none = np.zeros(0, dtype=np.int64)
    left = SurfaceMap(np.ones(1), np.zeros(0), np.array([3]), none, "left", "z", "fsaverage0")
    lh, rh = getattr(left, kind)(tmp_path)
    assert np.isnan(load_surf_data_of(rh)).all()
    assert load_surf_data_of(rh).shape == (12,)
    assert np.nansum(load_surf_data_of(lh)) == 1


@pytest.mark.parametrize("kind", ["to_gifti", "to_mgh"])
def test_writing_again_passes_and_another_map_is_refused(tmp_path, surface_map, kind):
    lh, rh = getattr(surface_map, kind)(tmp_path)
    first = [path.read_bytes() for path in (lh, rh)]
    assert getattr(surface_map, kind)(tmp_path) == (lh, rh)
    lh.unlink()  # only the second file is in the way: the first is not written either
    other = replace(surface_map, lh=surface_map.lh + 1, rh=surface_map.rh + 1)
    with pytest.raises(InvalidParameterError) as caught:
        getattr(other, kind)(tmp_path)
    assert f"got:      {rh}" in str(caught.value)
    assert 'name="..."' in str(caught.value)
    assert list(tmp_path.iterdir()) == [rh]
    getattr(surface_map, kind)(tmp_path)
    assert [path.read_bytes() for path in (lh, rh)] == first


def test_subjects_and_names_keep_maps_apart(tmp_path, surface_map):
    second = replace(surface_map, provenance={"subject": 2})
    unknown = replace(surface_map, provenance={})
    paths = [
        content.to_mgh(tmp_path, name="faces > houses")[0] for content in (surface_map, second)
    ]
    paths += [unknown.to_mgh(tmp_path, name="faces")[0], unknown.to_mgh(tmp_path)[0]]
    assert [path.name for path in paths] == [
        "lh.subject-01_faces-houses.mgh",
        "lh.subject-02_faces-houses.mgh",
        "lh.faces.mgh",
        "lh.photos-größe-.jpg.mgh",
    ]
    lh, _ = surface_map.to_gifti(tmp_path, name="faces > houses")
    assert nibabel.load(lh).meta["Name"] == "faces > houses"
    with pytest.raises(InvalidParameterError, match="name of a map is not a string"):
        surface_map.to_mgh(tmp_path, name=3)


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path, surface_map):
    (tmp_path / "rh.subject-01_map.mgh").mkdir()
    with pytest.raises(InvalidParameterError, match="another map of this name"):
        surface_map.to_mgh(tmp_path, name="map")
    assert len(list(tmp_path.iterdir())) == 1


@given(name=st.text(max_size=60))
@example(name="\x00\x1f\ud800\ufffe&<]]>\"'")
@example(name="")
@example(name="../../etc/passwd")
def test_any_name_can_be_written(tmp_path_factory, name):
    folder = tmp_path_factory.mktemp("maps")
    one = np.zeros(1, dtype=np.int64)
    content = SurfaceMap(np.ones(1), np.ones(1), one, one, name, "z", "fsaverage0", {"name": name})
    paths = content.to_gifti(folder)
    assert {path.parent for path in paths} == {folder}
    assert sorted(folder.iterdir()) == sorted(paths)
    image = nibabel.load(paths[0])
    assert json.loads(image.meta["Provenance"])["name"] == name
    if all(unicodedata.category(c) != "Cc" for c in name):
        expected = "".join(
            "?" if "\ud800" <= c <= "\udfff" or c in "\ufffe\uffff" else c for c in name
        )
        assert image.meta.get("Name", "").strip() == expected.strip()  # nibabel strips
    shutil.rmtree(folder)


@given(name=st.text())
def test_a_safe_name_is_short_plain_and_its_own_safe_name(name):
    safe = safe_name(name)
    assert 0 < len(safe.encode()) <= 80
    assert all(c.isalnum() or c in "._+=-" for c in safe)
    assert safe[0] not in ".-"
    assert safe == unicodedata.normalize("NFC", safe)
    assert safe_name(safe) == safe


def test_long_names_keep_their_end_and_stay_apart():
    names = [f"/data/{letter}{'long' * 40}/cat.jpg" for letter in "ab"]
    safe = [safe_name(name) for name in names]
    assert safe[0] != safe[1]
    assert all(name.endswith("-cat.jpg") and len(name) <= 80 for name in safe)
    assert len(safe_name("é" * 200).encode()) <= 80


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("photos/cat.jpg", "cat"),
        ("C:\\photos\\cat.JPEG", "cat"),
        ("x.hdf5:imgBrick[3]", "x.hdf5-imgBrick-3"),
        ("images.npy[12]", "images.npy-12"),
        ("shard-000.tar:n01/cat.webp", "cat"),
        ("v1.5", "v1.5"),
        ("", "map"),
        ("photos/", "photos"),
    ],
)
def test_short_names_of_images(name, short):
    assert short_name(name) == short


@pytest.mark.parametrize("kind", ["gifti", "mgh"])
@pytest.mark.parametrize("block_bytes", [1, 400, 2**20])
def test_every_image_is_written(tmp_path, monkeypatch, responses, kind, block_bytes):
    monkeypatch.setattr("berg.responses.image_maps._BLOCK_BYTES", block_bytes)
    pairs = write_image_maps(responses, tmp_path, kind, show_progress=False)
    suffix = surface_files.SUFFIXES[kind]
    names = [path.name for path, _ in pairs]
    assert names[:4] == [
        f"lh.image-{label}{suffix}"
        for label in ("000000_cat", "000001_cat", "000002_x.hdf5-imgBrick-3", "000003_größe")
    ]
    assert names == sorted(names)
    assert sorted(tmp_path.iterdir()) == sorted(path for pair in pairs for path in pair)
    lh, _ = responses.compute()
    for row, (left, right) in enumerate(pairs):
        # 1e-6: float32 products of three terms, in blocks of other sizes
        np.testing.assert_allclose(load_surf_data_of(left), [np.nan, np.nan, *lh[row]], atol=1e-6)
        assert np.isnan(load_surf_data_of(right)).all()
    if kind == "gifti":
        meta = nibabel.load(pairs[4][0]).meta
        assert (meta["Name"], meta["Units"]) == ("x" * 300, "z")


def test_images_are_written_again_and_never_over_others(tmp_path, monkeypatch, responses):
    monkeypatch.setattr("berg.responses.image_maps._BLOCK_BYTES", 400)  # two images
    of_one = Responses(
        responses.scores,
        responses.readout,
        names=responses.names,
        mesh="fsaverage1",
        provenance={"subject": 1},
    )
    pairs = of_one.to_mgh(tmp_path, show_progress=False)
    assert pairs[0][0].name == "lh.subject-01_image-000000_cat.mgh"
    first = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for path in (*pairs[1], pairs[3][0]):
        path.unlink()  # as after a run that was killed
    assert of_one.to_mgh(tmp_path, show_progress=False) == pairs
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == first
    pairs[0][1].unlink()
    pairs[4][1].write_bytes(b"of somebody else")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InvalidParameterError) as caught:
        of_one.to_mgh(tmp_path, show_progress=False)
    assert f"got:      {pairs[4][1]}" in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_no_images_make_no_files(tmp_path, responses):
    assert write_image_maps(responses[:0], tmp_path, "mgh", show_progress=False) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["gifti", "mgh"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_files_take_no_more_than_was_asked_for(tmp_path, monkeypatch, rng, kind, share):
    asked = []
    monkeypatch.setattr(
        "berg.responses.image_maps.check_space", lambda folder, n, what: asked.append(n)
    )
    n_vertices = mesh_size("fsaverage5")
    vertices = np.flatnonzero(rng.uniform(size=n_vertices) < share)
    # random bytes but for the sign: incompressible floats
    coef = rng.integers(0, 2**30, (len(vertices), 1), dtype=np.int32).view(np.float32)
    zero = np.zeros(len(vertices), dtype=np.float32)
    responses = Responses(
        np.ones((1, 1), np.float32),
        Readout(coef, zero, coef, zero, vertices, vertices),
        mesh="fsaverage5",
        provenance={"note": "x" * 10000},
    )
    pairs = write_image_maps(responses, tmp_path, kind, show_progress=False)
    written = sum(path.stat().st_size for path in pairs[0])
    assert written <= asked[0]
    if share == 1:
        assert asked[0] < 1.5 * written


def test_a_full_disk_is_said_before_anything_is_written(tmp_path, monkeypatch, responses):
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ResourceError, match=r"maps of 5 images do not fit(.*\n)+.*83.6 kB free"):
        write_image_maps(responses, tmp_path / "new", "mgh", show_progress=False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_said(tmp_path, surface_map):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="cannot be written"):
        surface_map.to_gifti(tmp_path / "file")


@pytest.mark.parametrize("surface", ["infl", "pial", "sphere"])
@pytest.mark.parametrize("mesh", ["fsaverage5", "fsaverage1"])
def test_nilearn_image_has_the_mesh_and_the_values(rng, surface, mesh):
    n_vertices = mesh_size(mesh)
    vertices = np.sort(rng.permutation(n_vertices)[:20])
    values = rng.standard_normal((2, 20), dtype=np.float32)
    content = SurfaceMap(*values, vertices, vertices, "map", "z", mesh)
    image = content.to_nilearn(surface)
    for hemi, expected in zip(SIDES, content.whole(), strict=True):
        part = image.mesh.parts[SIDES[hemi]]
        np.testing.assert_array_equal(image.data.parts[SIDES[hemi]], expected)
        np.testing.assert_array_equal(part.faces, faces(mesh_level(mesh)))
        np.testing.assert_array_equal(
            part.coordinates, load_packaged(hemi, surface)[0][:n_vertices]
        )


def test_the_full_mesh_has_the_sphere_only():
    one = np.zeros(1, dtype=np.int64)
    content = SurfaceMap(np.ones(1), np.ones(1), one, one, "map", "z", "fsaverage6")
    with pytest.raises(InvalidParameterError, match=r"to_fsaverage5\(\), or take surface='sphere'"):
        content.to_nilearn()
    part = content.to_nilearn("sphere").mesh.parts["right"]
    np.testing.assert_array_equal(part.coordinates, sphere("rh", 6).vertices)
    with pytest.raises(InvalidParameterError, match="no surface 'inflate'"):
        content.to_nilearn("inflate")


def test_nilearn_draws_a_map(tmp_path, rng):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from nilearn.plotting import plot_surf_stat_map

    vertices = np.arange(5000)
    values = rng.standard_normal((2, 5000), dtype=np.float32)
    image = SurfaceMap(*values, vertices, vertices, "map", "z", "fsaverage5").to_nilearn()
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(projection="3d")
    plot_surf_stat_map(
        stat_map=image, hemi="left", figure=figure, axes=axes, colorbar=False, engine="matplotlib"
    )
    figure.savefig(tmp_path / "map.png", dpi=40)
    assert (tmp_path / "map.png").stat().st_size > 2000


def test_what_is_not_installed_is_named(tmp_path, monkeypatch, surface_map, responses):
    monkeypatch.setattr(surface_files, "find_spec", lambda name: None)
    monkeypatch.setattr(maps, "find_spec", lambda name: None)
    for write in (
        lambda: surface_map.to_gifti(tmp_path),
        lambda: surface_map.to_mgh(tmp_path),
        lambda: write_image_maps(responses, tmp_path, "mgh"),
        surface_map.to_nilearn,
    ):
        with pytest.raises(MissingExtraError, match=r'pip install "berg\[plot\]"'):
            write()
    assert list(Path(tmp_path).iterdir()) == []


def test_meshes_have_the_names_of_their_levels():
    assert [mesh_level(name) for name in MESHES] == [7, 6, 5, 4, 3, 2, 1, 0]
    assert [mesh_name(level) for level in range(8)] == list(reversed(MESHES))
    assert mesh_size("fsaverage") == 163842
    with pytest.raises(InvalidParameterError, match="no such level"):
        mesh_name(8)
    with pytest.raises(InvalidParameterError, match="no mesh 'fsaverage7'"):
        mesh_level("fsaverage7")
    assert [mesh_of_size(mesh_size(mesh)) for mesh in MESHES] == list(MESHES)
    with pytest.raises(InvalidParameterError, match="no fsaverage level has this many"):
        mesh_of_size(163843)
