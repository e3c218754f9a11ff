import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from berg.errors import (
    FileFormatError,
    InvalidParameterError,
    InvalidParameterTypeError,
    NSDFilesNotFoundError,
)
from berg.nsd.images import CoreImages, StoredImages, SyntheticImages
from nsd_tree_fixture import (
    HEIGHT,
    N_COLOUR,
    N_STORED,
    N_SYNTHETIC_SHARED,
    WIDTH,
    write_images,
    write_nsd,
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return write_nsd(tmp_path_factory.mktemp("nsd"))


@settings(deadline=None)
@given(ids=st.lists(st.integers(0, N_STORED - 1), max_size=12))
def test_reads_images_in_any_order(tree, ids):
    with CoreImages(tree.files) as images:
        assert (images.n_images, images.height, images.width) == (N_STORED, HEIGHT, WIDTH)
        read = images.read(ids)
    assert read.dtype == np.uint8
    assert read.flags.c_contiguous
    expected = tree.arrays[tree.files.stimuli][np.array(ids, int)].transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("subject", [1, 2])
def test_synthetic_images_are_two_files_with_gamma(tree, subject):
    files = tree.files
    paths = (files.synthetic_stimuli, files.synthetic_colour_stimuli(subject))
    stored = np.concatenate([tree.arrays[path] for path in paths])
    # As NSD's authors wrote it: (sqrt(img/255)*255).astype(uint8).
    shown = (np.sqrt(stored / 255) * 255).astype(np.uint8)
    ids = np.array([7, 0, 4, 5, 5], np.uint16)
    with SyntheticImages(files, subject) as images:
        assert images.n_shared == N_SYNTHETIC_SHARED
        assert images.n_images == N_SYNTHETIC_SHARED + N_COLOUR
        read = images.read(ids)
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, shown[ids].transpose(0, 3, 1, 2))


def test_images_that_were_never_written_are_black(tmp_path):
    path = tmp_path / "sparse.hdf5"
    with h5py.File(path, "w") as file:
        brick = file.create_dataset("imgBrick", (1000, 4, 5, 3), "u1", chunks=(1, 4, 5, 3))
        brick[700] = 9
    with StoredImages(path) as images:
        assert images.read([699, 700]).max(axis=(1, 2, 3)).tolist() == [0, 9]


@pytest.mark.parametrize("ids", [[N_STORED], [-1, 0], [0, 2**40]])
def test_images_that_do_not_exist(tree, ids):
    with CoreImages(tree.files) as images, pytest.raises(InvalidParameterError, match="0 to 39"):
        images.read(ids)


@pytest.mark.parametrize("ids", [[0.0], 3, [[1]], ["1"], [True]])
def test_ids_that_are_not_whole_numbers(tree, ids):
    with (
        CoreImages(tree.files) as images,
        pytest.raises(InvalidParameterTypeError, match="not whole numbers"),
    ):
        images.read(ids)


def test_closes_its_files(tree):
    with CoreImages(tree.files), pytest.raises(OSError, match="already open"):
        h5py.File(tree.files.stimuli, "r+")
    h5py.File(tree.files.stimuli, "r+").close()


@pytest.mark.parametrize(
    ("dataset", "shape", "dtype", "match"),
    [
        ("images", (2, 4, 4, 3), "u1", "no imgBrick, but 'images'"),
        ("imgBrick/inner", (2, 4, 4, 3), "u1", "no imgBrick, but 'imgBrick'"),
        ("imgBrick", (2, 4, 4, 3), "f4", r"shape \(2, 4, 4, 3\), float32"),
        ("imgBrick", (2, 3, 4, 4), "u1", r"shape \(2, 3, 4, 4\), uint8"),
        ("imgBrick", (2, 4, 0, 3), "u1", r"shape \(2, 4, 0, 3\)(.*\n)+.*of one pixel or more"),
        ("imgBrick", (4, 4, 3), "u1", r"shape \(4, 4, 3\), uint8"),
    ],
)
def test_files_that_hold_something_else(tmp_path, dataset, shape, dtype, match):
    path = tmp_path / "images.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset(dataset, shape, dtype)
    with pytest.raises(FileFormatError, match=match) as raised:
        StoredImages(path)
    assert str(path) in str(raised.value)
    path.unlink()  # it is closed: Windows would not let it go


def test_files_that_cannot_be_read(tmp_path, rng):
    path = tmp_path / "images.hdf5"
    write_images(path, rng.integers(0, 256, (20, 8, 8, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(FileFormatError, match=r"images\.hdf5 is not a file of NSD's images"):
        StoredImages(path)
    path.write_text("a page that says: not found")
    with pytest.raises(FileFormatError, match="accepted: a whole HDF5 file"):
        StoredImages(path)
    path.unlink()
    with pytest.raises(NSDFilesNotFoundError, match=r"images\.hdf5 not found"):
        StoredImages(path)


def test_an_image_that_is_damaged(tmp_path, rng):
    path = tmp_path / "images.hdf5"
    stored = rng.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    with h5py.File(path, "w") as file:
        brick = file.create_dataset("imgBrick", data=stored, chunks=(1, 8, 8, 3), fletcher32=True)
        offset = brick.id.get_chunk_info(1).byte_offset
    raw = bytearray(path.read_bytes())
    raw[offset + 5] ^= 1
    path.write_bytes(raw)
    with StoredImages(path) as images:
        np.testing.assert_array_equal(images.read([2])[0], stored[2].transpose(2, 0, 1))
        with pytest.raises(FileFormatError, match="image 1: "):
            images.read([0, 1])


def test_images_of_two_sizes(tmp_path):
    write_images(tmp_path / "a.hdf5", np.zeros((2, 4, 6, 3), np.uint8))
    write_images(tmp_path / "b.hdf5", np.zeros((2, 6, 4, 3), np.uint8))
    with pytest.raises(FileFormatError, match=r"b\.hdf5 has images of another size than a\.hdf5"):
        StoredImages(tmp_path / "a.hdf5", tmp_path / "b.hdf5")
