import gzip
import logging

import numpy as np
import pytest

from berg.catalog import DEFAULT_MODEL_ID, find_card
from berg.errors import FileFormatError, NSDFilesNotFoundError
from berg.nsd.maps import read_map, read_ncsnr
from berg.nsd.rois import read_roi_names, read_rois, roi_files
from berg.surface.roi_patches import ROI_COLLECTIONS
from nsd_tree_fixture import N_NATIVE, N_VERTICES, write_mgh, write_nsd

CARD = find_card(DEFAULT_MODEL_ID)
HEMIS = ("lh", "rh")


@pytest.fixture
def tree(tmp_path):
    return write_nsd(tmp_path)


@pytest.mark.parametrize("suffix", [".mgh", ".mgz"])
@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.uint8, np.int16])
def test_reads_maps_of_every_type(tmp_path, dtype, suffix):
    values = np.array([3, 0, 7, 100], dtype)
    path = tmp_path / f"lh.map{suffix}"
    write_mgh(path, values)
    read = read_map(path)
    assert read.dtype == dtype
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, values)


def test_reads_ncsnr(tree):
    ncsnr = read_ncsnr(tree.files, 2)
    for hemi in HEMIS:
        assert ncsnr[hemi].dtype == np.float32
        np.testing.assert_array_equal(ncsnr[hemi], tree.arrays[tree.files.ncsnr(2, hemi)])


@pytest.mark.parametrize("value", [-0.5, np.inf, -np.inf])
def test_an_ncsnr_cannot_be_negative_or_infinite(tmp_path, value):
    tree = write_nsd(tmp_path)
    values = np.array([0, 1, np.nan, value, value], np.float32)
    write_mgh(tree.files.ncsnr(1, "rh"), values[:3])
    assert np.isnan(read_ncsnr(tree.files, 1)["rh"][2])
    write_mgh(tree.files.ncsnr(1, "rh"), values)
    with pytest.raises(FileFormatError, match=r"rh\.ncsnr\.mgh(.*\n)+.*2 of 5 vertices"):
        read_ncsnr(tree.files, 1)


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_little_endian_maps_say_so(tmp_path, compress):
    path = tmp_path / "lh.map.mgh"
    write_mgh(path, np.arange(9, dtype=np.float32))
    raw = path.read_bytes()
    numbers = np.frombuffer(raw[: len(raw) // 4 * 4], ">i4")
    path.write_bytes(compress(numbers.astype("<i4").tobytes()))
    with pytest.raises(FileFormatError, match=r"got: +little-endian numbers\n.*big-endian"):
        read_map(path)


@pytest.mark.parametrize("suffix", [".mgh", ".mgz"])
@pytest.mark.parametrize("n_bytes", [0, 1, 20, 45])
def test_maps_that_are_cut_off(tmp_path, suffix, n_bytes):
    path = tmp_path / f"lh.map{suffix}"
    write_mgh(path, np.arange(100, dtype=np.float32))
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(FileFormatError, match=rf"lh\.map\{suffix} is not a surface map"):
        read_map(path)


def test_other_things_than_maps(tmp_path):
    path = tmp_path / "lh.map.mgz"
    path.write_text("a page that says: not found " * 20)
    with pytest.raises(FileFormatError, match="is not a surface map"):
        read_map(path)
    write_mgh(path, np.ones((4, 3), np.float32))
    with pytest.raises(FileFormatError, match="not a map of one number a vertex"):
        read_map(path)
    with pytest.raises(NSDFilesNotFoundError, match=r"rh\.map\.mgz not found"):
        read_map(tmp_path / "rh.map.mgz")


def literal_rois(tree, subject, hemi):
    """Vertex by vertex, as FACTS describes it."""
    files = tree.files
    transform = tree.arrays[files.white_to_fsaverage(subject, hemi)]
    rois = {name: [] for name in CARD.rois}
    for collection, names in ROI_COLLECTIONS.items():
        native = tree.arrays.get(files.roi_labels(subject, hemi, collection))
        for vertex in range(N_VERTICES):
            if native is None:
                label = tree.arrays[files.fsaverage_nsdgeneral(hemi)][vertex]
            else:
                label = native[transform[vertex] - 1]
            if label:
                rois[names[label - 1]].append(vertex)
    return rois


@pytest.mark.parametrize("hemi", HEMIS)
@pytest.mark.parametrize("subject", [1, 2])  # the second has nsdgeneral on fsaverage only
def test_reads_every_region_of_the_card(tree, subject, hemi):
    rois = read_rois(tree.files, subject, N_VERTICES)[hemi]
    assert list(rois) == list(CARD.rois)
    assert all(vertices.dtype == np.int64 for vertices in rois.values())
    found = {name: vertices.tolist() for name, vertices in rois.items()}
    assert found == literal_rois(tree, subject, hemi)
    assert sum(map(len, found.values())) > 50


def test_regions_that_the_subject_lacks_are_empty(tree):
    for hemi in HEMIS:
        write_mgh(tree.files.roi_labels(1, hemi, "floc-words"), np.zeros(N_NATIVE, np.float32))
    tree.files.roi_names(1, "floc-words").write_text("0 Unknown\n")
    rois = read_rois(tree.files, 1, N_VERTICES)
    for name in ROI_COLLECTIONS["floc-words"]:
        assert rois["lh"][name].shape == rois["rh"][name].shape == (0,)


def test_names_decide_and_not_numbers(tree, caplog):
    names = tree.files.roi_names(1, "floc-words")
    before = read_rois(tree.files, 1, N_VERTICES)
    text = "# one\n\n0\tUnknown 0 0 0 0\n1 OVWFA 255 0 0 0\n 2\tVWFA-2\n3 VWFA-1\n4 other\n5 x\n"
    names.write_text(text)
    with caplog.at_level(logging.INFO, "berg.nsd.rois"):
        after = read_rois(tree.files, 1, N_VERTICES)
    for hemi in HEMIS:
        np.testing.assert_array_equal(after[hemi]["OWFA"], before[hemi]["OWFA"])
        np.testing.assert_array_equal(after[hemi]["VWFA-2"], before[hemi]["VWFA-1"])
        assert not after[hemi]["mfs-words"].size
        assert "OVWFA" not in after[hemi]
    assert [record.args[1] for record in caplog.records] == ["other", "x"]


def test_minus_one_is_no_region(tree):
    path = tree.files.roi_labels(1, "lh", "streams")
    labels = tree.arrays[path].copy()
    before = read_rois(tree.files, 1, N_VERTICES)["lh"]["early"]
    labels[labels == 0] = -1
    write_mgh(path, labels.astype(np.int32))
    np.testing.assert_array_equal(read_rois(tree.files, 1, N_VERTICES)["lh"]["early"], before)


@pytest.mark.parametrize(
    ("line", "number"),
    [
        *(
            (line, 2)
            for line in ("V1v", "1", "one V1v", "-1 V1v", "1.0 V1v", "² V1v", "<p>\n1 V1v")
        ),
        *((lines, 3) for lines in ("1 V1v\n1 V1d", "1 V1v\n2 V1v")),
    ],
)
def test_unexpected_lines_of_names(tmp_path, line, number):
    path = tmp_path / "prf-visualrois.mgz.ctab"
    path.write_text(f"0 Unknown\n{line}\n", encoding="utf-8")
    with pytest.raises(FileFormatError, match="has an unexpected line") as raised:
        read_roi_names(path)
    assert str(path) in str(raised.value)
    assert f"line {number}: {line.splitlines()[number - 2]!r}" in str(raised.value)


def test_a_mark_at_the_beginning_of_names_is_no_number(tmp_path):
    path = tmp_path / "streams.mgz.ctab"
    path.write_bytes(b"\xef\xbb\xbf1 early\n")
    assert read_roi_names(path) == {1: "early"}


@pytest.mark.parametrize("text", ["", "# none\n\n"])
def test_files_without_names(tmp_path, text):
    path = tmp_path / "streams.mgz.ctab"
    path.write_text(text)
    with pytest.raises(FileFormatError, match=r"streams\.mgz\.ctab names no region"):
        read_roi_names(path)
    path.write_text("0 Unknown")  # of a subject that has none
    assert read_roi_names(path) == {}


def test_names_that_are_not_text(tmp_path):
    path = tmp_path / "streams.mgz.ctab"
    path.write_bytes(b"\xff\xfe1 early")
    with pytest.raises(FileFormatError, match="cannot be read as text"):
        read_roi_names(path)


def changed(tree, path, vertex, value):
    values = tree.arrays[path].astype(np.float32)
    values[vertex] = value
    write_mgh(path, values)


@pytest.mark.parametrize(("value", "got"), [(0, "first 0"), (N_NATIVE + 1, "first 26")])
def test_ways_to_vertices_that_do_not_exist(tree, value, got):
    path = tree.files.white_to_fsaverage(1, "rh")
    changed(tree, path, [7, 11], value)
    with pytest.raises(FileFormatError, match="leads to vertices") as raised:
        read_rois(tree.files, 1, N_VERTICES)
    assert f"2 of them, {got} at vertex 7" in str(raised.value)
    assert str(path) in str(raised.value)
    assert "1 to 25" in str(raised.value)


@pytest.mark.parametrize("value", [2.5, np.nan, np.inf, 1e20])
def test_numbers_that_are_not_whole(tree, value):
    changed(tree, tree.files.white_to_fsaverage(1, "lh"), 3, value)
    with pytest.raises(FileFormatError, match="numbers that are not whole") as raised:
        read_rois(tree.files, 1, N_VERTICES)
    assert "at vertex 3" in str(raised.value)


def test_labels_without_a_name(tree):
    changed(tree, tree.files.roi_labels(1, "rh", "floc-faces"), [4, 9], 99)
    with pytest.raises(FileFormatError, match=r"rh\.floc-faces\.mgz has labels without") as raised:
        read_rois(tree.files, 1, N_VERTICES)
    assert "2 of them, first 99 at vertex 4" in str(raised.value)
    assert "1 (OFA), 2 (FFA-1)" in str(raised.value)
    assert "floc-faces.mgz.ctab" in str(raised.value)


def test_files_of_another_surface(tree):
    with pytest.raises(FileFormatError, match=r"white-to-fsaverage.* is not on the surface"):
        read_rois(tree.files, 1, N_VERTICES + 1)
    write_mgh(tree.files.fsaverage_nsdgeneral("lh"), np.ones(N_VERTICES + 2, np.float32))
    with pytest.raises(FileFormatError, match=r"fsaverage.*nsdgeneral.* is not on the surface"):
        read_rois(tree.files, 2, N_VERTICES)


def test_names_the_files_that_regions_are_read_from(tree):
    files = tree.files
    own, drawn = roi_files(files, 1), roi_files(files, 2)
    assert len(own) == 2 + 7 * 3
    assert len(drawn) == 2 + 6 * 3 + 2
    assert all(path.is_file() for path in (*own, *drawn))
    assert files.fsaverage_nsdgeneral("lh") in drawn
    for path in drawn:
        backup = path.read_bytes()
        path.unlink()
        with pytest.raises(NSDFilesNotFoundError):
            read_rois(files, 2, N_VERTICES)
        path.write_bytes(backup)
