import gc
import io
import sys
import tarfile
import threading
import time
from itertools import chain

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from berg import stimuli
from berg.errors import ImageFileError, ResourceError
from berg.sources import (
    ArrayImage,
    ImageFile,
    ImageReader,
    batches,
    check_any_is_good,
    find_images,
    read_batches,
)
from berg.stimuli import as_uint8, resize_and_crop


def pixels_of(side, seed):
    shape = (side, side, 3) if isinstance(side, int) else (*side, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def alone(pixels):
    """Prepare an image (height, width, 3) by itself."""
    side = min(pixels.shape[:2])
    top, left = ((length - side) // 2 for length in pixels.shape[:2])
    square = pixels[top : top + side, left : left + side].transpose(2, 0, 1)
    return resize_and_crop(as_uint8(square[np.newaxis]))[0]


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """Images of every kind and of several sizes, and each of them prepared alone."""
    folder = tmp_path_factory.mktemp("sources")
    expected = []
    for number, side in enumerate([230, (240, 300), 256, 230, 100, 230]):
        expected.append(pixels_of(side, number))
        Image.fromarray(expected[-1]).save(folder / f"{number}.png")
    array = np.stack([pixels_of(230, seed) for seed in range(10, 30)])
    np.save(folder / "x.npy", np.moveaxis(array, -1, 1).astype(np.int32))
    brick = np.stack([pixels_of((225, 260), seed) for seed in range(30, 70)])
    with h5py.File(folder / "s.hdf5", "w") as file:
        file["imgBrick"] = brick
    with tarfile.open(folder / "s.tar", "w") as archive:
        for number in range(3):
            content = io.BytesIO()
            Image.fromarray(brick[number]).save(content, "png")
            info = tarfile.TarInfo(f"{number}.png")
            info.size = content.tell()
            content.seek(0)
            archive.addfile(info, content)
    expected += [*array, *brick, *brick[:3]]
    images = find_images([folder, folder / "x.npy", folder / "s.hdf5:imgBrick", folder / "s.tar"])
    return images[:], torch.stack([alone(pixels) for pixels in expected])


def in_groups(references, size):
    return [references[start : start + size] for start in range(0, len(references), size)]


@pytest.mark.parametrize("size", [1, 7, 32, 1000])
def test_batches_are_what_each_image_is_alone(everything, size):
    references, expected = everything
    groups = in_groups(references, size)
    found = list(read_batches(iter(groups)))
    assert [len(batch.pixels) for batch in found] == list(map(len, groups))
    assert torch.equal(torch.cat([batch.pixels for batch in found]), expected)
    names = list(chain.from_iterable(batch.names for batch in found))
    assert names == [reference.name for reference in references]
    assert all(batch.is_good.all() and not batch.errors for batch in found)
    cropped = list(chain.from_iterable(batch.cropped for batch in found))
    assert cropped == [names[1], *names[26:]]
    assert [name for batch in found for name in batch.small] == [names[4]]


@given(order=st.lists(st.integers(0, 68), max_size=40), n_threads=st.integers(1, 4))
@settings(max_examples=15, deadline=None)
def test_any_images_in_any_order(everything, order, n_threads):
    references, expected = everything
    groups = [*in_groups([references[position] for position in order], 13), []]
    found = list(read_batches(groups, n_threads=n_threads))
    assert found[-1].pixels.shape == (0, 3, 224, 224)
    assert torch.equal(torch.cat([batch.pixels for batch in found]), expected[order])


def test_how_much_is_read_together_changes_nothing(everything, monkeypatch):
    references, expected = everything
    monkeypatch.setattr(batches, "_BYTES_AHEAD", 1)
    monkeypatch.setattr(batches, "_BYTES_TOGETHER", 400_000)
    found = list(read_batches([references[:30], references[30:]]))
    assert torch.equal(torch.cat([batch.pixels for batch in found]), expected)


def test_a_group_may_be_a_collection_itself(everything, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((3, 3, 256, 256), np.uint8))
    (batch,) = read_batches([find_images([tmp_path / "x.npy"])])
    assert len(batch.names) == 3


def test_no_group_is_no_batch():
    assert list(read_batches([])) == []


def test_an_array_is_checked_once_and_not_for_every_image(tmp_path, monkeypatch):
    np.save(tmp_path / "c.npy", np.zeros((5, 3, 224, 224), int))
    checks = []
    monkeypatch.setattr(stimuli, "check_stimulus", lambda array: checks.append(len(array)) or array)
    list(read_batches(in_groups(find_images([tmp_path / "c.npy"]), 2)))
    assert checks == [5]


# --- bad images


@pytest.fixture
def ten_with_two_bad(tmp_path):
    Image.fromarray(pixels_of(230, 0)).save(tmp_path / "good.png")
    (tmp_path / "bad.jpg").write_bytes(b"not an image")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    names = ["good.png"] * 5 + ["bad.jpg"] + ["good.png"] * 3 + ["cut.png"]
    return [ImageFile(name, str(tmp_path / name)) for name in names]


def test_a_bad_image_is_named_after_all_earlier_batches(ten_with_two_bad):
    found = []
    with pytest.raises(ImageFileError, match=r"^bad\.jpg cannot be read(.*\n)*.*--skip-bad"):
        found += list(map(found.append, read_batches(in_groups(ten_with_two_bad, 2))))
    assert [batch.names for batch in found] == [("good.png", "good.png")] * 2


def test_skipping_goes_on_and_lists_what_was_bad(ten_with_two_bad):
    first, second = read_batches(in_groups(ten_with_two_bad, 6), skip_bad=True)
    assert first.is_good.tolist() == [True] * 5 + [False]
    assert second.is_good.tolist() == [True] * 3 + [False]
    assert first.names[5] == "bad.jpg"
    assert torch.equal(first.pixels[:5], alone(pixels_of(230, 0)).expand(5, -1, -1, -1))
    assert not first.pixels[5].any()
    problems = [str(error).splitlines()[0] for error in (*first.errors, *second.errors)]
    assert problems == [
        "bad.jpg cannot be read as an image",
        "cut.png cannot be read as an image",
    ]


def test_bad_rows_among_good_ones_are_skipped(tmp_path):
    data = np.stack([pixels_of(230, seed) for seed in range(20)]).astype(np.int16)
    data[[3, 17], 0, 0, 0] = 256
    with h5py.File(tmp_path / "s.h5", "w") as file:
        file["images"] = data
    (batch,) = read_batches([find_images([tmp_path / "s.h5"])[:]], skip_bad=True)
    assert np.flatnonzero(~batch.is_good).tolist() == [3, 17]
    assert ["images[3]" in str(batch.errors[0]), "images[17]" in str(batch.errors[1])] == [True] * 2
    for row in (2, 4, 16, 18, 19):
        assert torch.equal(batch.pixels[row], alone(data[row].astype(np.uint8)))


def test_a_file_that_is_gone_is_never_skipped(tmp_path, ten_with_two_bad):
    gone = ImageFile("gone.png", str(tmp_path / "gone.png"))
    reading = read_batches([ten_with_two_bad, [gone]], skip_bad=True)
    next(reading)
    with pytest.raises(ResourceError, match=r"gone\.png cannot be read"):
        next(reading)
    reading = read_batches([[ArrayImage("x[0]", str(tmp_path / "x.npy"), row) for row in (0, 1)]])
    with pytest.raises(ResourceError, match=r"x\[0\] cannot be read"):
        next(reading)


def test_that_all_are_bad_is_an_error(ten_with_two_bad):
    (batch,) = read_batches([[ten_with_two_bad[5], ten_with_two_bad[9]]], skip_bad=True)
    with pytest.raises(ImageFileError, match=r"no image can be read\n.*2 unread.*first: bad\.jpg"):
        check_any_is_good(0, batch.errors)
    check_any_is_good(1, batch.errors)
    check_any_is_good(0, [])


# --- threads


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("berg-read")]


@pytest.fixture
def slow(monkeypatch):
    """Reading that takes 20 ms an image, and what was read."""
    read = []
    decode = ImageReader.read

    def slowly(self, reference):
        time.sleep(0.02)
        read.append(reference.name)
        return decode(self, reference)

    monkeypatch.setattr(ImageReader, "read", slowly)
    return read


def many(folder, n_images):
    Image.fromarray(pixels_of(256, 0)).save(folder / "a.png")
    return [ImageFile(str(number), str(folder / "a.png")) for number in range(n_images)]


@pytest.mark.parametrize("how", ["close", "forget", "fail"])
def test_the_threads_end_promptly(tmp_path, slow, how):
    groups = [many(tmp_path, 2), [ImageFile("bad", "bad")], many(tmp_path, 40), many(tmp_path, 40)]
    reading = read_batches(groups if how == "fail" else groups[2:], n_threads=2)
    next(reading)
    assert readers()
    n_read = len(slow)
    if how == "close":
        reading.close()
    elif how == "forget":
        del reading
        gc.collect()
    else:
        with pytest.raises(ResourceError):
            next(reading)
    assert readers() == []
    # What the two threads were at, and what they began meanwhile: not the 40 that are ahead.
    assert len(slow) <= n_read + 8


def test_reading_goes_on_while_the_caller_computes(tmp_path, slow):
    reading = read_batches(in_groups(many(tmp_path, 60), 10), n_threads=2)
    next(reading)
    deadline = time.monotonic() + 10
    while len(slow) < 29 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1)
    assert len(slow) == 29  # two batches ahead, less the image that ended this one
    next(reading)
    reading.close()


def test_large_images_are_not_piled_up(tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "_FIRST_GUESS", 3 * 256**2)
    monkeypatch.setattr(batches, "_BYTES_AHEAD", 3 * 256**2 * 5)
    decoded = []
    decode = ImageReader.read
    monkeypatch.setattr(
        ImageReader, "read", lambda self, image: decoded.append(1) or decode(self, image)
    )
    reading = read_batches(in_groups(many(tmp_path, 40), 10), n_threads=2)
    next(reading)
    time.sleep(0.2)
    assert 10 <= len(decoded) <= 17
    reading.close()


def test_torch_is_told_nothing_of_the_threads(tmp_path):
    n_threads = torch.get_num_threads()
    list(read_batches([many(tmp_path, 3)]))
    assert torch.get_num_threads() == n_threads


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files")
def test_no_file_is_left_open(everything):
    import os

    references, _ = everything
    before = len(os.listdir("/proc/self/fd"))
    list(read_batches([references]))
    assert len(os.listdir("/proc/self/fd")) == before
