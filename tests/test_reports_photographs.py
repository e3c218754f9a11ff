"""Photographs found again by the names under which they were encoded."""

import io
import tarfile

import h5py
import numpy as np
import pytest
from PIL import Image

from berg.errors import ImageFileError
from berg.reports.photographs import find_photographs
from berg.sources import find_images

SIDE = 8


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def colour(photograph):
    """Of a flat photograph, or None."""
    return None if photograph.pixels is None else photograph.pixels[:, 0, 0].tolist()


def save(path, rgb, shape=(SIDE, SIDE)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.tile(np.array(rgb, np.uint8), (*shape, 1))).save(path)


@pytest.mark.filterwarnings("ignore:.*8×8 pixels")
def test_every_kind_of_source_is_followed_from_its_names(here, rng):
    # What `find_images` calls them is what must be found.
    save(here / "photos" / "a b.png", (1, 2, 3))
    arrays = rng.integers(0, 256, (3, 3, SIDE, SIDE), dtype=np.uint8)
    np.save(here / "arrays.npy", arrays)
    with h5py.File(here / "stimuli.hdf5", "w") as file:
        file["imgs/all"] = arrays.transpose(0, 2, 3, 1)
    with tarfile.open(here / "shard-0.tar", "w") as shard:
        for number in range(2):
            buffer = io.BytesIO()
            Image.fromarray(arrays[number].transpose(1, 2, 0)).save(buffer, "png")
            member = tarfile.TarInfo(f"{number:04}.png")
            member.size = len(buffer.getvalue())
            buffer.seek(0)
            shard.addfile(member, buffer)
    sources = ["photos", "arrays.npy", "stimuli.hdf5:imgs/all", "shard-0.tar"]
    names = find_images(sources).names()
    assert len(names) == 1 + 3 + 3 + 2
    expected = [np.tile([[[1]], [[2]], [[3]]], (SIDE, SIDE)), *arrays, *arrays, *arrays[:2]]
    for found in (
        find_photographs(names, [here]),  # by what the names say
        find_photographs(names, [], sources),  # by what was given
    ):
        for photograph, pixels in zip(found, expected, strict=True):
            np.testing.assert_array_equal(photograph.pixels, pixels)


def test_the_first_folder_that_has_the_file_is_taken(here):
    save(here / "one" / "a.png", (10, 0, 0))
    save(here / "two" / "a.png", (20, 0, 0))
    save(here / "two" / "b.png", (30, 0, 0))
    found = find_photographs(["a.png", "b.png", "c.png"], [here / "one", here / "two"])
    assert [colour(each) for each in found] == [[10, 0, 0], [30, 0, 0], None]
    assert "--images-from FOLDER" in found[2].problem


def test_names_that_cannot_be_files_lead_nowhere(here):
    names = ["x" * 300 + ".png", "nothing \0.png", "half \ud800.png", "/" + "y/" * 3000 + ".png"]
    assert all(each.pixels is None for each in find_photographs(names, [here]))


def test_moved_photographs_are_known_by_the_end_of_their_names(here):
    save(here / "new" / "cats" / "1.png", (10, 0, 0))
    save(here / "new" / "dogs" / "1.png", (20, 0, 0))
    save(here / "new" / "house.png", (30, 0, 0))
    names = ["/old/cats/1.png", "old/dogs/1.png", "house.png", "1.png", "use.png"]
    found = find_photographs(names, [], ["new"])
    assert [colour(each) for each in found] == [[10, 0, 0], [20, 0, 0], [30, 0, 0], None, None]
    # A wrong photograph beside a map would be worse than none.
    assert "2 images end in this name" in found[3].problem
    assert "not found" in found[4].problem


def test_what_was_given_goes_before_what_a_name_leads_to(here):
    save(here / "a.png", (10, 0, 0))
    save(here / "given" / "a.png", (20, 0, 0))
    (found,) = find_photographs(["a.png"], [here], ["given"])
    assert colour(found) == [20, 0, 0]


def test_it_is_the_central_square(here):
    wide = np.zeros((SIDE, 3 * SIDE, 3), np.uint8)
    wide[:, SIDE : 2 * SIDE] = (5, 6, 7)
    Image.fromarray(wide).save(here / "wide.png")
    (found,) = find_photographs(["wide.png"], [here])
    assert found.pixels.shape == (3, SIDE, SIDE)
    assert (found.pixels == np.array([5, 6, 7])[:, None, None]).all()


def test_a_photograph_that_cannot_be_read_has_a_reason(here):
    (here / "bad.png").write_bytes(b"no image")
    np.save(here / "few.npy", np.zeros((1, 3, 224, 224), np.uint8))
    names = ["bad.png", "few.npy[7]", "few.npy", "", "."]
    found = find_photographs(names, [here])
    assert "bad.png cannot be read as an image" in found[0].problem
    assert all(each.pixels is None and each.problem for each in found[:2] + found[3:])
    assert found[2].pixels is not None  # the file's only image
    with pytest.raises(ImageFileError, match="no file or folder nowhere"):
        find_photographs(names, [here], ["nowhere"])
