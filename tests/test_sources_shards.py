import io
import os
import tarfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from berg.errors import ImageFileError, ResourceError
from berg.sources import ImageReader, ShardImage, find_images

FORMATS = {"pax": tarfile.PAX_FORMAT, "gnu": tarfile.GNU_FORMAT, "ustar": tarfile.USTAR_FORMAT}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def png(seed=0, side=230):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png", compress_level=0)
    return pixels, out.getvalue()


def write_shard(path, members, format=tarfile.PAX_FORMAT, mtime=1.5):
    with tarfile.open(path, "w", format=format) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mtime = mtime  # as WebDataset writes it: a pax header for each member
            archive.addfile(info, io.BytesIO(content))


names = st.text("ab/é", min_size=1, max_size=130).map(lambda name: name.strip("/") or "a")


@given(
    members=st.lists(
        st.tuples(names, st.sampled_from([".jpg", ".PNG", ".json", ".cls", ""]), st.binary()),
        max_size=8,
    ),
    format=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
@settings(max_examples=60, deadline=None)
def test_members_are_those_that_tarfile_extracts(tmp_path_factory, members, format):
    path = tmp_path_factory.mktemp("shard") / "s.tar"
    write_shard(path, [(name + suffix, content) for name, suffix, content in members], format)
    with tarfile.open(path) as archive:
        expected = [
            (f"{path}:{member.name}", archive.extractfile(member).read())
            for member in archive.getmembers()
            if member.name.lower().endswith((".jpg", ".png"))
        ]
    if not expected:
        with pytest.raises(ImageFileError, match="no images in the shard"):
            find_images([path])
        return
    images = find_images([path])
    assert images.names() == [name for name, _ in expected]
    whole = path.read_bytes()
    assert [whole[image.offset : image.offset + image.size] for image in images] == [
        content for _, content in expected
    ]


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
def test_shards_hold_images_between_other_members(here, format):
    first, first_bytes = png(1)
    second, second_bytes = png(2)
    write_shard(
        "s.tar",
        [
            ("./0001.png", first_bytes),
            ("./0001.json", b"{}"),
            ("0002.input.PNG", second_bytes),
            (".hidden.png", b""),
            ("sub/._0001.png", b"what macOS writes beside a file"),
        ],
        format,
    )
    images = find_images(["s.tar"])
    assert images.names() == ["s.tar:./0001.png", "s.tar:0002.input.PNG"]
    assert isinstance(images[1], ShardImage)
    with ImageReader() as reader:  # in any order
        for image, pixels in ((images[1], second), (images[0], first)):
            np.testing.assert_array_equal(reader.read(image).pixels, pixels.transpose(2, 0, 1))


def test_braces_lists_and_folders_name_shards(here):
    os.mkdir("d")
    for number in range(9, 12):
        write_shard(f"d/s-{number:03d}.tar", [("a.jpg", b"a")])
    expected = [f"d/s-{number:03d}.tar:a.jpg" for number in (9, 10, 11)]
    with open("l.txt", "w") as file:
        file.write("d/s-{009..010}.tar\nd/s-011.tar\n")
    for source in ("d/s-{009..011}.tar", "d", "l.txt"):
        assert find_images([source]).names() == expected
    Image.new("RGB", (230, 230)).save("d/image.png")
    assert find_images(["d"]).names() == ["d/image.png"]
    # What is there under the very name is not expanded.
    write_shard("{1..2}.tar", [("a.jpg", b"a")])
    assert find_images(["{1..2}.tar"]).names() == ["{1..2}.tar:a.jpg"]
    assert find_images(["d/s-{011..010}.tar"]).names() == expected[:0:-1]


def test_missing_shards_of_a_range_are_named_at_once(here):
    write_shard("s-1.tar", [("a.jpg", b"a")])
    with pytest.raises(ImageFileError, match=r"no 3 of .*: s-0\.tar, s-2\.tar, s-3\.tar\n"):
        find_images(["s-{0..3}.tar"])
    with pytest.raises(ImageFileError, match=r"stands for 10,000,000,000 files"):
        find_images(["{00000..99999}/{00000..99999}.tar"])


@pytest.mark.parametrize("suffix", [".tar.gz", ".tgz", ".TAR.BZ2", ".tar.zst"])
def test_compressed_shards_are_refused_with_what_to_do(here, suffix):
    with open(f"s{suffix}", "wb"):
        pass
    with pytest.raises(ImageFileError, match=r"is compressed\n(.*\n)*.*gunzip"):
        find_images([f"s{suffix}"])


def test_a_compressed_shard_under_another_name_is_damaged(here):
    with tarfile.open("s.tar", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
    with pytest.raises(ImageFileError, match=r"s\.tar is truncated or damaged"):
        find_images(["s.tar"])


THREE = [("0.png", bytes(700)), ("1.png", bytes(512)), ("2.png", bytes(100))]


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
def test_a_shard_that_is_cut_anywhere_is_named(here, format):
    write_shard("whole.tar", THREE, format)
    with open("whole.tar", "rb") as file:
        content = file.read()
    with tarfile.open("whole.tar") as archive:
        end = archive.getmembers()[-1].offset_data + 512
    for length in range(0, end + 1, 128):
        with open("s.tar", "wb") as file:
            file.write(content[:length])
        with pytest.raises(ImageFileError, match=r"shard s\.tar is truncated or damaged\n"):
            find_images(["s.tar"])
    with open("s.tar", "wb") as file:  # one block of zeros is an end that tar accepts
        file.write(content[: end + 512])
    assert len(find_images(["s.tar"])) == 3


def test_a_damaged_header_in_the_middle_is_named(here):
    write_shard("s.tar", THREE, tarfile.USTAR_FORMAT)
    with tarfile.open("s.tar") as archive:
        header = archive.getmembers()[1].offset
    with open("s.tar", "r+b") as file:
        file.seek(header + 20)
        file.write(b"damage")
    with pytest.raises(ImageFileError, match=rf"a damaged header, {header} bytes into it"):
        find_images(["s.tar"])


def test_members_that_lead_elsewhere_are_refused(here):
    with open("a.png", "wb") as file:
        file.write(b"a")
    os.link("a.png", "b.png")
    with tarfile.open("s.tar", "w") as archive:
        archive.add("a.png")
        archive.add("b.png")
    with pytest.raises(
        ImageFileError, match=r"b\.png of the shard s\.tar(.*\n)*.*a link to a\.png"
    ):
        find_images(["s.tar"])


def test_a_shard_without_images_is_named_with_its_line(here):
    write_shard("s.tar", [("0.json", b"{}"), ("folder.png/", b"")])
    with pytest.raises(ImageFileError, match=r"no images in the shard s\.tar\n.* 2 other members"):
        find_images(["s.tar"])
    with open("l.txt", "w") as file:
        file.write("\ns.tar\n")
    with pytest.raises(ImageFileError, match=r"^line 2 of l\.txt: no images in the shard"):
        find_images(["l.txt"])


def test_a_corrupt_image_in_a_shard_is_named_by_shard_and_member(here):
    content = png()[1]
    write_shard("s.tar", [("a.png", content), ("b.png", content[:999]), ("c.png", content)])
    with (
        ImageReader() as reader,
        pytest.raises(ImageFileError, match=r"^s\.tar:b\.png cannot be read as an image"),
    ):
        [reader.read(image) for image in find_images(["s.tar"])]


def test_a_shard_that_changed_or_went_is_said(here):
    write_shard("s.tar", [("a.png", png()[1])])
    (image,) = find_images(["s.tar"])
    os.utime("s.tar", ns=(0, 0))
    with ImageReader() as reader, pytest.raises(ResourceError, match=r"s\.tar:a\.png was changed"):
        reader.read(image)
    os.utime("s.tar", ns=(0, image.mtime_ns))
    os.truncate("s.tar", 1000)
    os.utime("s.tar", ns=(0, image.mtime_ns))
    with ImageReader() as reader, pytest.raises(ResourceError, match="an end of the shard before"):
        reader.read(image)
    os.unlink("s.tar")
    with ImageReader() as reader, pytest.raises(ResourceError, match=r"(.*\n)*.*No such file"):
        reader.read(image)


def test_more_shards_than_files_may_be_open(here):
    pixels, content = png()
    for number in range(40):
        write_shard(f"s-{number:02d}.tar", [("a.png", content)])
    images = find_images(["s-{00..39}.tar"])
    with ImageReader() as reader:
        before = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
        for image in [*images, *images]:
            np.testing.assert_array_equal(reader.read(image).pixels, pixels.transpose(2, 0, 1))
        if before:
            assert len(os.listdir("/proc/self/fd")) <= before + 32
    if before:
        assert len(os.listdir("/proc/self/fd")) == before
