import numpy as np
import pytest
from PIL import Image

from berg import stimuli
from berg.errors import ImageFileError, StimulusError
from berg.photos import Photo, PreparedPhotos, find_photos, read_photo
from berg.stimuli import as_uint8, resize_and_crop


def save(path, shape=(230, 230, 3), mode="RGB", seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return pixels


def test_files_folders_and_arrays_in_the_order_given(tmp_path):
    for name in ("b/2.png", "b/1.JPG", "b/sub/3.bmp", "b/.hidden.png", "b/.git/4.png", "a.png"):
        save(tmp_path / name)
    (tmp_path / "b/notes.txt").write_text("no image")
    np.save(tmp_path / "c.npy", np.zeros((2, 3, 224, 224), np.uint8))
    found = find_photos([tmp_path / "b", str(tmp_path / "a.png"), tmp_path / "c.npy"])
    names = [photo.name.removeprefix(f"{tmp_path}/") for photo in found]
    assert names == ["b/1.JPG", "b/2.png", "b/sub/3.bmp", "a.png", "c.npy[0]", "c.npy[1]"]


def test_what_is_no_source_is_refused(tmp_path):
    with pytest.raises(ImageFileError, match="no file or folder"):
        find_photos([tmp_path / "absent.png"])
    with pytest.raises(OSError, match="no images in the folder"):
        find_photos([tmp_path])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 224, 224, 3), np.uint8), r"bad\.npy: .*channels-last"),
        (np.zeros((2, 3, 224, 224)), r"bad\.npy: .*float64"),
        (np.array([{}]), r"bad\.npy cannot be read as an array"),
    ],
)
def test_an_array_that_is_no_stimulus_is_named(tmp_path, array, message):
    np.save(tmp_path / "bad.npy", array, allow_pickle=True)
    with pytest.raises(StimulusError, match=message):
        find_photos([tmp_path / "bad.npy"])


def test_a_square_photo_is_taken_as_it_is(tmp_path):
    pixels = save(tmp_path / "p.png")
    image, cropped = read_photo(tmp_path / "p.png")
    np.testing.assert_array_equal(image, pixels.transpose(2, 0, 1))
    assert not cropped


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [((300, 240, 3), (30, 270), (0, 240)), ((240, 301, 3), (0, 240), (30, 270))],
)
def test_a_photo_that_is_not_square_is_cut_to_its_centre(tmp_path, shape, rows, columns):
    pixels = save(tmp_path / "p.png", shape)
    image, cropped = read_photo(tmp_path / "p.png")
    np.testing.assert_array_equal(image, pixels[slice(*rows), slice(*columns)].transpose(2, 0, 1))
    assert cropped


def test_the_cameras_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 270° to view
    pixels = save(tmp_path / "p.png", exif=exif)
    image, _ = read_photo(tmp_path / "p.png")
    np.testing.assert_array_equal(image, np.rot90(pixels, -1).transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1"])
def test_other_modes_become_rgb(tmp_path, mode):
    save(tmp_path / "p.tif", mode=mode)
    image, _ = read_photo(tmp_path / "p.tif")
    assert image.shape == (3, 230, 230)
    assert image.dtype == np.uint8


def test_transparent_pixels_become_white(tmp_path):
    pixels = np.zeros((230, 230, 4), np.uint8)
    pixels[0, 0] = (10, 20, 30, 255)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    image, _ = read_photo(tmp_path / "p.png")
    assert image[:, 0, 0].tolist() == [10, 20, 30]
    assert image[:, 5, 5].tolist() == [255, 255, 255]


def test_deep_images_are_refused_rather_than_clipped(tmp_path):
    Image.fromarray(np.full((230, 230), 40_000, np.uint16)).save(tmp_path / "p.png")
    with pytest.raises(ImageFileError, match="more than 8 bits"):
        read_photo(tmp_path / "p.png")


@pytest.fixture
def ten_with_two_bad(tmp_path):
    save(tmp_path / "good.png")
    (tmp_path / "bad.jpg").write_bytes(b"not an image")
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    good = Photo(tmp_path / "good.png")
    return [good] * 5 + [Photo(tmp_path / "bad.jpg")] + [good] * 3 + [Photo(tmp_path / "cut.png")]


def test_an_unreadable_image_is_named(ten_with_two_bad):
    with pytest.raises(ImageFileError, match=r"bad\.jpg cannot be read(.*\n)*.*--skip-bad"):
        list(PreparedPhotos(ten_with_two_bad, batch_size=4))


def test_skipping_goes_on_and_lists_what_was_bad(ten_with_two_bad):
    prepared = PreparedPhotos(ten_with_two_bad, batch_size=3, skip_bad=True)
    assert [len(batch) for batch in prepared] == [3, 3, 2]
    assert len(prepared.names) == 8
    assert [str(error).splitlines()[0].split("/")[-1] for error in prepared.bad] == [
        "bad.jpg cannot be read as an image",
        "cut.png cannot be read as an image",
    ]


def test_skipping_every_image_is_an_error(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"not an image")
    with pytest.raises(ImageFileError, match=r"no image can be read(.*\n)*.*the first: .*bad\.jpg"):
        list(PreparedPhotos([Photo(tmp_path / "bad.jpg")], batch_size=2, skip_bad=True))


def test_small_photos_are_listed(tmp_path):
    save(tmp_path / "small.png", (223, 400, 3))
    save(tmp_path / "large.png", (224, 224, 3))
    photos = [Photo(tmp_path / "large.png"), Photo(tmp_path / "small.png")]
    prepared = PreparedPhotos(photos, batch_size=2)
    list(prepared)
    assert prepared.small == [str(tmp_path / "small.png")]


def test_an_array_is_checked_once_and_not_for_every_image(tmp_path, monkeypatch):
    np.save(tmp_path / "c.npy", np.zeros((5, 3, 224, 224), int))
    checks = []
    monkeypatch.setattr(stimuli, "check_stimulus", lambda array: checks.append(len(array)) or array)
    list(PreparedPhotos(find_photos([tmp_path / "c.npy"]), batch_size=2))
    assert checks == [5]


def test_photos_are_prepared_as_arrays_are(tmp_path):
    pixels = save(tmp_path / "p.png", (300, 300, 3))
    array = pixels.transpose(2, 0, 1)[np.newaxis]
    np.save(tmp_path / "p.npy", array.astype(np.int64))
    photos = find_photos([tmp_path / "p.png", tmp_path / "p.npy"])
    (batch,) = PreparedPhotos(photos, batch_size=2)
    expected = resize_and_crop(as_uint8(array))[0]
    np.testing.assert_array_equal(batch[0], expected)
    np.testing.assert_array_equal(batch[1], expected)
