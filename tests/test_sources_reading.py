import os
import tarfile
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest
from PIL import Image

from berg.errors import ImageFileError, ResourceError
from berg.sources import ArrayImage, HDF5Image, ImageFile, ImageReader, find_images, open_files
from berg.sources.open_files import PositionalFile
from berg.sources.photos import decode_photo


def save(path, shape=(230, 230, 3), mode="RGB", seed=0, **options):
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return pixels


def read(path):
    with ImageReader() as reader:
        return reader.read(ImageFile(path.name, str(path)))


# --- photographs


def test_a_square_photo_is_taken_as_it_is(tmp_path):
    pixels = save(tmp_path / "p.png")
    image = read(tmp_path / "p.png")
    np.testing.assert_array_equal(image.pixels, pixels.transpose(2, 0, 1))
    assert image.pixels.flags.c_contiguous
    assert not image.cropped


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [((300, 240, 3), (30, 270), (0, 240)), ((240, 301, 3), (0, 240), (30, 270))],
)
def test_a_photo_that_is_not_square_is_cut_to_its_centre(tmp_path, shape, rows, columns):
    pixels = save(tmp_path / "p.png", shape)
    image = read(tmp_path / "p.png")
    expected = pixels[slice(*rows), slice(*columns)].transpose(2, 0, 1)
    np.testing.assert_array_equal(image.pixels, expected)
    assert image.cropped


def test_the_cameras_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 270° to view
    pixels = save(tmp_path / "p.png", exif=exif)
    expected = np.rot90(pixels, -1).transpose(2, 0, 1)
    np.testing.assert_array_equal(read(tmp_path / "p.png").pixels, expected)


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1"])
def test_other_modes_become_rgb(tmp_path, mode):
    save(tmp_path / "p.tif", mode=mode)
    image = read(tmp_path / "p.tif")
    assert image.pixels.shape == (3, 230, 230)
    assert image.pixels.dtype == np.uint8


def test_transparent_pixels_become_white(tmp_path):
    pixels = np.zeros((230, 230, 4), np.uint8)
    pixels[0, 0] = (10, 20, 30, 255)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    image = read(tmp_path / "p.png").pixels
    assert image[:, 0, 0].tolist() == [10, 20, 30]
    assert image[:, 5, 5].tolist() == [255, 255, 255]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_an_image_of_one_pixel_can_be_written_to(tmp_path, mode):
    Image.new(mode, (1, 1)).save(tmp_path / "p.png")
    image = read(tmp_path / "p.png").pixels
    assert image.shape == (3, 1, 1)
    assert image.flags.writeable  # or PyTorch warns, once


def test_deep_images_are_refused_rather_than_clipped(tmp_path):
    Image.fromarray(np.full((230, 230), 40_000, np.uint16)).save(tmp_path / "p.png")
    with pytest.raises(ImageFileError, match=r"p\.png has more than 8 bits"):
        read(tmp_path / "p.png")


@pytest.mark.parametrize("length", [0, 10, 40, 1000])
def test_what_is_no_image_is_named_without_addresses_in_memory(tmp_path, length):
    save(tmp_path / "p.png")
    content = (tmp_path / "p.png").read_bytes()[:length]
    with pytest.raises(ImageFileError, match=r"^p\.png cannot be read as an image\n") as caught:
        decode_photo(content, "p.png")
    assert "0x" not in str(caught.value)
    assert "--skip-bad" in str(caught.value)


def test_a_file_that_went_or_changed_is_no_bad_image(tmp_path):
    save(tmp_path / "p.png")
    (image,) = find_images([tmp_path / "p.png"])
    with ImageReader() as reader:
        reader.read(image)
        os.utime(image.path, ns=(0, image.mtime_ns + 1_000_000_000))
        with pytest.raises(ResourceError, match=r"was changed since(.*\n)*.*\+1\.000 s"):
            reader.read(image)
        os.unlink(image.path)
        with pytest.raises(ResourceError, match=r"p\.png cannot be read\n.*No such file"):
            reader.read(image)
        os.mkdir(image.path)
        with pytest.raises(ImageFileError, match="directory"):
            reader.read(image)


def test_what_to_do_about_a_bad_image_fits_stores_and_python(tmp_path):
    (tmp_path / "p.png").write_text("no image")
    with pytest.raises(ImageFileError, match=r"--skip-bad \(skip_bad=True\).*start anew"):
        read(tmp_path / "p.png")


# --- files that many read at once


@pytest.mark.parametrize("has_preadv", [True, False])
def test_threads_read_a_file_at_their_own_places(tmp_path, rng, monkeypatch, has_preadv):
    monkeypatch.setattr(open_files, "_HAS_PREADV", has_preadv)  # Windows has none
    content = rng.bytes(1_000_000)
    (tmp_path / "f").write_bytes(content)
    file = PositionalFile(str(tmp_path / "f"))

    def read_part(offset):
        buffer = bytearray(10_000)
        n_read = file.read_into(memoryview(buffer), offset)
        return bytes(buffer[:n_read])

    offsets = rng.integers(0, len(content) + 100, 2000).tolist()
    with ThreadPoolExecutor(8) as pool:
        parts = list(pool.map(read_part, offsets))
    assert parts == [content[offset : offset + 10_000] for offset in offsets]
    file.close()


def test_rows_and_members_are_read_without_positional_reading(tmp_path, rng, monkeypatch):
    monkeypatch.setattr(open_files, "_HAS_PREADV", False)
    for name in ("preadv", "pread"):
        monkeypatch.delattr(os, name)
    array = rng.integers(0, 256, (5, 3, 224, 224), np.uint8)
    np.save(tmp_path / "a.npy", array)
    pixels = save(tmp_path / "p.png")
    with tarfile.open(tmp_path / "s.tar", "w") as shard:
        shard.add(tmp_path / "p.png", "p.png")
    images = find_images([tmp_path / "a.npy", tmp_path / "s.tar"])
    with ImageReader() as reader:
        (rows,) = reader.read_together(images[1:4])
        member = reader.read(images[5])
    np.testing.assert_array_equal(rows.pixels, array[1:4])
    np.testing.assert_array_equal(member.pixels, pixels.transpose(2, 0, 1))


# --- rows

INTEGERS = (np.uint8, np.int8, np.int64, ">u2", "<i4")


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("order", ["C", "F"])
def test_rows_of_an_array_are_its_rows(tmp_path, rng, dtype, order):
    array = np.asarray(rng.integers(0, 128, (9, 3, 224, 224)), dtype, order=order)
    np.save(tmp_path / "x.npy", array)
    images = find_images([tmp_path / "x.npy"])[:]
    with ImageReader() as reader:
        np.testing.assert_array_equal(reader.read(images[7]).pixels, array[7])
        (together,) = reader.read_together(images[2:8])
        np.testing.assert_array_equal(together.pixels, array[2:8])
        assert together.pixels.dtype == np.uint8
        assert not together.cropped


@pytest.mark.parametrize("dtype", INTEGERS)
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize(("height", "width"), [(224, 224), (231, 224), (224, 230)])
def test_rows_of_a_dataset_are_cut_to_their_central_square(
    tmp_path, rng, dtype, channels_last, height, width
):
    data = rng.integers(0, 128, (4, height, width, 3)).astype(dtype)
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["images"] = data if channels_last else np.moveaxis(data, -1, 1)
    top, left = (height - 224) // 2, (width - 224) // 2
    expected = np.moveaxis(data[:, top : top + 224, left : left + 224], -1, 1)
    images = find_images([tmp_path / "s.h5"])[:]
    with ImageReader() as reader:
        one, (together,) = reader.read(images[3]), reader.read_together(images)
    np.testing.assert_array_equal(one.pixels, expected[3])
    np.testing.assert_array_equal(together.pixels, expected)
    assert one.cropped == together.cropped == (height != width)


def test_values_outside_of_8_bits_are_said_of_their_row_only(tmp_path):
    data = np.zeros((4, 224, 224, 3), np.int16)
    data[1, 5, 5, 0] = 300
    data[2, 5, 5, 0] = -1
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["images"] = data
    images = find_images([tmp_path / "s.h5"])[:]
    with ImageReader() as reader:
        first, *errors, last = reader.read_together(images)
    assert first.pixels.shape == last.pixels.shape == (1, 3, 224, 224)
    assert "s.h5:images[1] has values outside 0-255\n  got:      values from 0 to 300" in str(
        errors[0]
    )
    assert "s.h5:images[2] has values outside 0-255\n  got:      values from -1 to 0" in str(
        errors[1]
    )


def damage_row(path, row):
    """Flip a byte within the compressed chunk of a row, of which HDF5 keeps a checksum."""
    with h5py.File(path) as file:
        place = file["images"].id.get_chunk_info(row).byte_offset
    with open(path, "r+b") as file:
        file.seek(place + 50)
        byte = file.read(1)
        file.seek(place + 50)
        file.write(bytes([byte[0] ^ 255]))


def test_a_row_that_is_damaged_is_named(tmp_path, rng):
    with h5py.File(tmp_path / "s.h5", "w") as file:
        data = rng.integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)
        file.create_dataset("images", data=data, chunks=(1, 224, 224, 3), fletcher32=True)
    damage_row(tmp_path / "s.h5", 2)
    images = find_images([tmp_path / "s.h5"])[:]
    with ImageReader() as reader:
        read = reader.read_together(images)
    assert [isinstance(image, ImageFileError) for image in read] == [False, False, True, False]
    assert f"{tmp_path}/s.h5:images[2] cannot be read" in str(read[2])


def test_rows_that_follow_each_other_are_read_together(tmp_path):
    paths = [str(tmp_path / name) for name in ("a.h5", "b.h5")]
    for path in paths:
        with h5py.File(path, "w") as file:
            file.create_dataset("plain", (100, 224, 224, 3), np.uint8)
            file.create_dataset("chunked", (100, 224, 224, 3), np.uint8, chunks=(30, 8, 8, 3))

    def rows(path, dataset, *numbers):
        return [HDF5Image("", path, dataset, row) for row in numbers]

    references = [
        *rows(paths[0], "plain", *range(40)),
        *rows(paths[0], "chunked", *range(40)),
        *rows(paths[1], "chunked", 40, 41, 43, 42),
        ImageFile("", "photo.png"),
        ImageFile("", "photo.png"),
    ]
    with ImageReader() as reader:
        runs = list(reader.runs(references))
    lengths = [stop - start for start, stop in runs]
    assert lengths == [16, 16, 8, 30, 10, 2, 1, 1, 1, 1]
    assert [start for start, _ in runs] == np.cumsum([0, *lengths[:-1]]).tolist()


def test_an_array_that_changed_or_went_is_said(tmp_path):
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((3, 3, 224, 224), np.uint8))
    images = find_images([path])[:]
    os.utime(path, ns=(0, 0))
    with ImageReader() as reader:
        assert list(reader.runs(images)) == [(0, 1), (1, 2), (2, 3)]
        with pytest.raises(ResourceError, match=r"x\.npy\[1\] was changed since"):
            reader.read(images[1])
    with ImageReader() as reader:
        whole = ArrayImage("x[2]", str(path), 2)
        reader.read(whole)
        os.truncate(path, 200_000)
        with pytest.raises(ResourceError, match=r"x\[2\] cannot be read\n.*an end of the file"):
            reader.read(whole)
    path.unlink()
    with ImageReader() as reader, pytest.raises(ResourceError, match="No such file"):
        reader.read(images[0])
