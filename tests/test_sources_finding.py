import hashlib
import os
import pickle
import threading

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from berg.errors import (
    BERGWarning,
    ImageFileError,
    InvalidParameterTypeError,
    MissingExtraError,
    StimulusError,
)
from berg.sources import (
    ArrayImage,
    HDF5Image,
    ImageCollection,
    ImageFile,
    find_images,
    finding,
)
from berg.sources.collection import ArrayPart, Container, FilePart, PackedNames


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*paths):
    for path in paths:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "w") as file:
            file.write("content")


def write_hdf5(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, data in datasets.items():
            file[name.replace("__", "/")] = data


BRICK = np.zeros((3, 230, 230, 3), np.uint8)


# --- files, folders, arrays


def test_files_folders_and_arrays_in_the_order_given(here):
    touch("b/2.png", "b/1.JPG", "b/sub/3.bmp", "b/.hidden.png", "b/.git/4.png", "a.png")
    touch("b/notes.txt")
    np.save("c.npy", np.zeros((2, 3, 224, 224), np.uint8))
    images = find_images(["b", here / "a.png", "./c.npy"])
    names = ["b/1.JPG", "b/2.png", "b/sub/3.bmp", str(here / "a.png"), "c.npy[0]", "c.npy[1]"]
    assert images.names() == names
    mtime_ns = os.stat("b/2.png").st_mtime_ns
    assert images[1] == ImageFile("b/2.png", str(here / "b/2.png"), mtime_ns)
    assert images[5] == ArrayImage("c.npy[1]", str(here / "c.npy"), 1, os.stat("c.npy").st_mtime_ns)
    assert images.n_bytes == 4 * len("content") + os.path.getsize("c.npy")


names_in_trees = st.lists(
    st.text("aB1-.", min_size=1, max_size=3).filter(lambda name: set(name) != {"."}),
    min_size=1,
    max_size=3,
)


@given(trees=st.lists(names_in_trees, min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_a_folder_is_sorted_as_its_paths_are(tmp_path_factory, trees):
    folder = tmp_path_factory.mktemp("tree")
    for parts in trees:
        path = folder.joinpath(*parts[:-1], f"{parts[-1]}.png")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    visible = [
        path
        for path in sorted(folder.rglob("*.png"))
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
    if visible:
        assert find_images([folder]).names() == list(map(str, visible))
    else:
        with pytest.raises(ImageFileError, match="no images in the folder"):
            find_images([folder])


def test_all_that_is_missing_is_named_at_once(here):
    touch("here.png")
    with pytest.raises(ImageFileError, match=r"no file or folder absent\.png\n(.*\n)*.*spelling"):
        find_images(["absent.png", "here.png"])
    with pytest.raises(OSError, match=r"there are no 12 of .*: 0\.png, 1\.png, .* and 7 more"):
        find_images([f"{number}.png" for number in range(12)])
    with pytest.raises(ImageFileError, match="File name too long"):
        find_images(["a" * 300])
    with pytest.raises(ImageFileError, match="no file or folder"):
        find_images(["zero\0byte.png"])


def test_what_is_no_source_is_refused(here):
    with pytest.raises(ImageFileError, match=r"no images in the folder \.\n.*0 other"):
        find_images(["."])
    os.mkfifo("pipe.png")
    with pytest.raises(ImageFileError, match=r"pipe\.png is neither a file nor a folder"):
        find_images(["pipe.png"])
    with pytest.raises(InvalidParameterTypeError, match="a single path"):
        find_images("photos")
    assert len(find_images([])) == 0


def test_links_that_lead_nowhere_are_said(here):
    touch("photos/a.png")
    os.symlink("nowhere", "photos/b.png")
    os.symlink("a.png", "photos/c.png")
    os.makedirs("other/folder.png")
    os.symlink("../other", "photos/linked")
    os.symlink("../other", "photos/linked.png")
    with pytest.warns(BERGWarning, match=r"1 of 3 images .* photos/b\.png"):
        assert find_images(["photos"]).names() == ["photos/a.png", "photos/c.png"]


def test_a_folder_that_may_not_be_read_is_named(here, monkeypatch):
    touch("photos/a.png", "photos/closed/b.png")
    scandir = os.scandir

    def refuse(path):
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)  # root may read everything
        with pytest.raises(ImageFileError, match=r"folder photos/closed cannot be read\n.*denied"):
            find_images(["photos"])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 224, 224, 3), np.uint8), r"bad\.npy: .*channels-last"),
        (np.zeros((2, 3, 224, 224)), r"bad\.npy: .*float64"),
        (np.zeros((2, 3, 224, 230), int), r"bad\.npy: .*not square"),
        (np.full((2, 3, 224, 224), 256), r"bad\.npy: .*outside 0-255"),
        (np.array([{}]), r"bad\.npy cannot be read as an array"),
    ],
)
def test_an_array_that_is_no_stimulus_is_named(here, array, message):
    np.save("bad.npy", array, allow_pickle=True)
    with pytest.raises(StimulusError, match=message):
        find_images(["bad.npy"])


def test_an_archive_of_arrays_is_no_array(here):
    np.savez("bad.npz", a=np.zeros(3))
    os.rename("bad.npz", "bad.npy")
    with pytest.raises(ImageFileError, match="an archive of arrays"):
        find_images(["bad.npy"])


def test_small_arrays_are_warned_of(here):
    np.save("small.npy", np.zeros((2, 3, 90, 90), np.uint8))
    write_hdf5("small.h5", images=np.zeros((2, 90, 95, 3), np.uint8))
    for source in ("small.npy", "small.h5"):
        with pytest.warns(BERGWarning, match="90×90 pixels and will be enlarged"):
            assert len(find_images([source])) == 2


# --- lists


def test_a_list_names_sources_from_its_own_folder(here):
    touch("data/a.png", "data/more/b.png", "data/more/c.png")
    write_hdf5("data/s.hdf5", images=BRICK, other=BRICK)
    np.save("data/x.npy", np.zeros((1, 3, 224, 224), np.uint8))
    with open("data/list.txt", "w", encoding="utf-8-sig", newline="\r\n") as file:
        file.write(f"more\n# a comment\n\n  a.png  \n{here}/data/x.npy\ns.hdf5:other\n")
    assert find_images(["data/list.txt"]).names() == [
        "data/more/b.png",
        "data/more/c.png",
        "data/a.png",
        f"{here}/data/x.npy[0]",
        *(f"data/s.hdf5:other[{row}]" for row in range(3)),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a.png\n\nabsent.png\n", r"no file or folder absent\.png \(line 3 of l\.txt\)"),
        (b"x.png\ny.png\n", r"no 2 of .*: x\.png \(line 1 of l\.txt\), y\.png \(line 2 of"),
        (b"#\nl.txt\n", r"line 2 of l\.txt: the list l\.txt is named by a list"),
        (b"\n\nbad.npy", r"^line 3 of l\.txt: bad\.npy: stimulus has dtype float64"),
        (b"empty", r"^line 1 of l\.txt: no images in the folder empty"),
        (b"\n# nothing\n", "names no source"),
        ("a.png".encode("utf-16"), "not a text file"),
    ],
)
def test_what_is_wrong_with_a_list_is_said_with_the_line(here, content, message):
    touch("a.png")
    os.mkdir("empty")
    np.save("bad.npy", np.zeros((1, 3, 224, 224)))
    with open("l.txt", "wb") as file:
        file.write(content)
    with pytest.raises(StimulusError, match=message):
        find_images(["l.txt"])


def test_names_that_are_no_utf8_are_found(here):
    name = os.fsdecode(b"caf\xe9.png")
    touch(name)
    with open("l.txt", "wb") as file:
        file.write(b"caf\xe9.png\n")
    assert find_images(["l.txt"]).names() == [name]
    assert find_images(["."]).names() == [name]


def test_a_list_may_name_the_users_own_folder(here, monkeypatch):
    touch("home/photos/a.png", "lists/~b.png")
    monkeypatch.setenv("HOME", str(here / "home"))
    monkeypatch.setenv("USERPROFILE", str(here / "home"))
    with open("lists/l.txt", "w") as file:
        file.write("~/photos\n~b.png\n")
    assert find_images(["lists/l.txt"]).names() == [f"{here}/home/photos/a.png", "lists/~b.png"]


def test_a_source_given_twice_is_warned_of(here):
    touch("photos/a.png", "b.png", "l.txt")
    with pytest.warns(BERGWarning, match=r"more than once, .*: photos, b\.png$"):
        images = find_images(["photos", "b.png", "./photos/", here / "b.png", "b.png"])
    assert len(images) == 5  # taken as asked
    with open("l.txt", "w") as file:
        file.write("b.png\nb.png\n")  # a list may well repeat an image: a sequence of trials
    assert len(find_images(["l.txt"])) == 2


@pytest.mark.parametrize(
    ("name", "do"),
    [
        ("images.csv", "its name ends in .txt"),
        ("images.JSON", "its name ends in .txt"),
        ("images.npz", "np.save the images"),
        ("photos.zip", "unpack it"),
        ("photos.tar.gz", "gunzip"),
    ],
)
def test_what_is_no_source_by_its_name_is_refused_before_it_is_read(here, name, do):
    touch(name, "no_suffix", "photo.j2k")
    with pytest.raises(ImageFileError, match=f"{name}.*(.*\n)*.*{do}"):
        find_images([name])
    assert len(find_images(["no_suffix", "photo.j2k"])) == 2  # perhaps images: reading will tell


# --- HDF5


@pytest.mark.parametrize(
    "data", [BRICK, BRICK.astype(">i4"), np.zeros((3, 3, 230, 250), np.uint16)]
)
def test_datasets_of_images_are_found_alone_or_by_name(here, data):
    write_hdf5("s.h5", group__images=data, labels=np.zeros(3), masks=np.zeros((3, 9, 9, 1), int))
    images = find_images(["s.h5", "s.h5:group/images"])
    assert len(images) == 6
    assert images.names(2, 4) == ["s.h5:group/images[2]", "s.h5:group/images[0]"]
    mtime_ns = os.stat("s.h5").st_mtime_ns
    name = "s.h5:group/images[2]"
    assert images[2] == HDF5Image(name, str(here / "s.h5"), "group/images", 2, mtime_ns)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "two.h5",
            r"several datasets of images\n.*images \(3, .*; others (.*\n)*.*two\.h5:im",
        ),
        ("none.h5", r"no dataset of images\n.*labels \(3,\) float64"),
        ("empty.h5", r"no dataset of images\n.*no dataset"),
        ("two.h5", r"got: +datasets images \([^x]*; others [^x]*\n +accepted"),
        ("two.h5:imgs", r"no dataset 'imgs' in two\.h5\. Did you mean 'images'\?"),
        ("two.h5:imgs", r"do: .*two\.h5:images$"),
        ("none.h5:imgs", r"do: +write the images into a dataset of this shape"),
        ("two.h5:group", r"something else than an array at 'group'"),
        ("none.h5:labels", r"none\.h5:labels does not hold RGB images\n.*\(3,\), float64"),
        ("none.h5:float", r"none\.h5:float does not hold RGB images\n.*float32"),
        ("text.hdf5", r"text\.hdf5 cannot be read as an HDF5 file"),
        ("cut.h5:images", r"cut\.h5 cannot be read as an HDF5 file"),
        ("absent.h5:images", r"no file or folder absent\.h5:images"),
        ("two.h5:", r"no file or folder two\.h5:"),
    ],
)
def test_what_is_no_dataset_of_images_is_refused(here, source, message):
    write_hdf5("two.h5", a__x=np.zeros(2), images=BRICK, others=BRICK, group__x=np.zeros(2))
    write_hdf5("none.h5", labels=np.zeros(3), float=BRICK.astype(np.float32))
    write_hdf5("empty.h5")
    touch("text.hdf5")
    write_hdf5("cut.h5", images=BRICK)
    os.truncate("cut.h5", os.path.getsize("cut.h5") - 1000)
    with pytest.raises(ImageFileError, match=message):
        find_images([source])


def test_without_h5py_the_extra_is_named(here, monkeypatch):
    write_hdf5("s.h5", images=BRICK)
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r'pip install "berg\[scale\]"'):
        find_images(["s.h5"])


def test_an_array_without_images_is_named(here):
    np.save("none.npy", np.zeros((0, 3, 224, 224), np.uint8))
    write_hdf5("none.h5", images=BRICK[:0])
    for source, name in (("none.npy", r"none\.npy"), ("none.h5", r"none\.h5:images")):
        with pytest.raises(ImageFileError, match=f"no images in {name}\n"):
            find_images([source])


# --- the collection


@pytest.fixture
def mixed(here):
    touch("a.png", "b.png", "c.png")
    write_hdf5("s.h5", images=BRICK)
    return find_images(["a.png", "b.png", "s.h5", "c.png"])


@given(index=st.slices(6) | st.integers(-6, 5))
def test_a_collection_is_indexed_as_a_list(index):
    container = Container("s.h5", "/s.h5", 1, 2)
    numbers = np.arange(2)
    parts = [
        FilePart("/", PackedNames(["a", "b"]), numbers, numbers),
        ArrayPart(container, "images", 3),
        ArrayPart(container, None, 0),
        FilePart("/", PackedNames(["c"]), numbers[:1], numbers[:1]),
    ]
    images = ImageCollection(parts)
    everything = [part.references(i, i + 1)[0] for part in parts for i in range(len(part))]
    assert len(images) == len(everything) == 6
    assert images[index] == everything[index]
    if isinstance(index, slice) and index.step in (1, None):
        expected = [reference.name for reference in everything[index]]
        assert images.names(index.start or 0, index.stop) == expected


def test_an_index_out_of_range_is_an_error(mixed):
    with pytest.raises(IndexError):
        mixed[6]
    assert [image.name for image in mixed][-1] == "c.png"


def test_a_collection_can_be_pickled(mixed):
    again = pickle.loads(pickle.dumps(mixed))  # noqa: S301 - our own
    assert again[:] == mixed[:]
    assert again.fingerprint == mixed.fingerprint


def test_the_fingerprint_follows_names_order_sizes_and_times(mixed, here, monkeypatch):
    sources = ["a.png", "b.png", "s.h5", "c.png"]
    assert len(mixed.fingerprint) == hashlib.sha256().digest_size * 2
    assert find_images(sources).fingerprint == mixed.fingerprint

    seen = {mixed.fingerprint}

    def is_new(fingerprint):
        new = fingerprint not in seen
        seen.add(fingerprint)
        return new

    assert is_new(find_images([*sources[1::-1], *sources[2:]]).fingerprint)
    assert is_new(find_images(sources[:-1]).fingerprint)
    assert is_new(find_images([here / "a.png", *sources[1:]]).fingerprint)
    then = os.stat("b.png")
    with open("b.png", "a") as file:
        file.write("more")
    os.utime("b.png", ns=(then.st_atime_ns, then.st_mtime_ns))
    assert is_new(find_images(sources).fingerprint)
    os.utime("b.png", ns=(then.st_atime_ns, then.st_mtime_ns + 1))
    assert is_new(find_images(sources).fingerprint)
    os.utime("s.h5", ns=(0, 0))
    assert is_new(find_images(sources).fingerprint)


def test_the_fingerprint_does_not_know_where_the_names_lead_from(tmp_path, monkeypatch):
    fingerprints = set()
    for folder in ("one", "two"):
        touch(tmp_path / folder / "a.png")
        os.utime(tmp_path / folder / "a.png", ns=(0, 0))
        monkeypatch.chdir(tmp_path / folder)
        fingerprints.add(find_images(["a.png"]).fingerprint)
    assert len(fingerprints) == 1


def test_files_are_kept_in_parts_of_which_nothing_is_seen(here, monkeypatch):
    touch(*(f"p/{number:02d}.png" for number in range(20)))
    whole = find_images(["p"])
    monkeypatch.setattr(finding, "_FILES_OF_A_PART", 7)
    parts = find_images(["p"])
    assert parts[:] == whole[:]
    assert parts.n_bytes == whole.n_bytes


def test_a_million_files_take_little_memory():
    names = PackedNames([f"folder_{i // 1000:04d}/image_{i:07d}.jpg" for i in range(100_000)])
    assert len(pickle.dumps(names)) < 100_000 * 40
    assert names.take(99_998, 100_000) == [f"folder_0099/image_{i:07d}.jpg" for i in (99998, 99999)]


def test_rows_cost_nothing_until_they_are_asked_for(here):
    with h5py.File("large.h5", "w") as file:
        file.create_dataset("images", (10**8, 225, 225, 3), np.uint8, chunks=(1, 225, 225, 3))
    images = find_images(["large.h5"])
    assert len(images) == 10**8
    assert images.names(10**8 - 1) == ["large.h5:images[99999999]"]
    assert len(pickle.dumps(images)) < 1000


def test_no_thread_is_left(here):
    Image.new("RGB", (230, 230)).save("a.png")
    n_threads = threading.active_count()
    find_images(["a.png"])
    assert threading.active_count() == n_threads
