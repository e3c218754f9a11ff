import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from berg.errors import (
    FileFormatError,
    InvalidParameterError,
    ResourceError,
    StoreNotFoundError,
)
from berg.stores import Store
from berg.stores.arrays import VERTEX_CHUNK, plan_arrays
from store_fixture import (
    N_CHUNK,
    N_IMAGES,
    N_VERTICES,
    NAMES,
    RECIPE,
    create,
    fill,
    hash_tree,
    responses,
    scores,
    status,
)


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """A complete store of each dtype, for tests that do not change it."""
    folder = tmp_path_factory.mktemp("complete")
    return {
        dtype: fill(create(folder / f"{dtype}.zarr", dtype=dtype))
        for dtype in ("scores", "float32", "float16")
    }


@pytest.fixture
def store(tmp_path, complete):
    """A complete store of scores, the test's own."""
    return Store.open(shutil.copytree(complete["scores"].path, tmp_path / "x.zarr"))


def run(code: str, *args: object) -> subprocess.CompletedProcess[str]:
    """Run code that has the fixture's names in a process of its own."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            "import os, sys\nfrom store_fixture import *\n" + code,
            *map(str, args),
        ],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("dtype", ["scores", "float32", "float16"])
def test_zarr_alone_reads_what_was_written(complete, dtype):
    root = zarr.open_group(complete[dtype].path, mode="r")
    assert root["image_name"][:].tolist() == NAMES
    np.testing.assert_array_equal(root["status"][:], status())
    for subject, n_vertices in N_VERTICES.items():
        group = root[f"subject-{subject:02}"]
        assert group.attrs["provenance"] == {"subject": subject, "simulated": True}
        np.testing.assert_array_equal(group["scores"][:], scores(subject))
        assert group["scores"].metadata.dimension_names == ("image", "component")
        for hemi, n, values in zip(("lh", "rh"), n_vertices, responses(subject), strict=True):
            np.testing.assert_array_equal(group[f"{hemi}_vertices"][:], np.arange(n))
            if dtype == "scores":
                assert hemi not in group
            else:
                np.testing.assert_array_equal(group[hemi][:], values.astype(dtype))
                assert group[hemi].dtype == dtype


def test_responses_are_cut_into_blocks_of_vertices(tmp_path):
    n = VERTEX_CHUNK + 3
    recipe = replace(
        RECIPE, subjects=(1,), weights_sha256=("2",), dtype="float16", n_images=3, chunk_images=2
    )
    vertices = {1: (np.arange(n), np.arange(1))}
    store = Store.create(
        tmp_path / "x", recipe, n_components=2, vertices=vertices, provenance={1: {}}
    )
    lh = np.random.default_rng(0).standard_normal((3, n), np.float32)
    for i in (0, 1):
        images = recipe.chunk(i)
        store.write_scores(i, 1, lh[images, :2])
        store.write_responses(i, 1, lh[images], lh[images, :1])
        store.finish_chunk(i, ["a", "b", "c"][images], np.ones(3, np.uint8)[images])
    assert {path.name for path in (tmp_path / "x/subject-01/lh/c/1").iterdir()} == {"0", "1"}
    read = zarr.open_array(tmp_path / "x/subject-01/lh", mode="r")[:]
    np.testing.assert_array_equal(read, lh.astype(np.float16))


def test_the_files_are_as_planned(complete):
    for dtype, store in complete.items():
        plans = plan_arrays(replace(RECIPE, dtype=dtype), 4, N_VERTICES)
        assert {path.parent for path in store.path.rglob("zarr.json")} - {
            store.path,
            store.path / "subject-01",
            store.path / "subject-03",
        } == {store.path / name for name in plans}
        for name, plan in plans.items():
            files = [path for path in (store.path / name / "c").rglob("*") if path.is_file()]
            assert len(files) == plan.n_files
            assert plan.file_bytes is None or {f.stat().st_size for f in files} <= {plan.file_bytes}


@settings(max_examples=8, deadline=None)
@given(order=st.permutations(range(RECIPE.n_chunks)), again=st.integers(0, RECIPE.n_chunks - 1))
def test_bytes_do_not_depend_on_the_way(tmp_path_factory, complete, order, again):
    path = tmp_path_factory.mktemp("store") / "other.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)  # the disk's time is not the test's
        create(path, dtype="float16")
        for i in [*order, again]:
            fill(Store.open(path), [i])
    assert hash_tree(path) == hash_tree(complete["float16"].path)


def test_a_store_has_no_trace_of_where_it_lies(complete):
    path = complete["scores"].path
    text = "".join(file.read_text() for file in path.rglob("zarr.json"))
    assert str(path.parent) not in text


def test_chunks_are_done_one_by_one(tmp_path):
    store = create(tmp_path / "x.zarr")
    assert store.pending() == [0, 1, 2, 3, 4]
    assert not store.is_done().any()
    fill(store, [3, 0])
    sent = pickle.loads(pickle.dumps(store))  # noqa: S301 - as to a worker
    for opened in (store, Store.open(store.path), sent):
        assert opened.pending() == [1, 2, 4]
        assert opened.is_done().tolist() == [True, False, False, True, False]
        done = np.repeat(opened.is_done(), N_CHUNK)[:N_IMAGES]
        np.testing.assert_array_equal(opened.status(), np.where(done, status(), 0))
    assert fill(store).pending() == []


def test_the_parts_of_a_store(store):
    assert store.path.is_absolute()
    assert (store.recipe, store.n_components) == (RECIPE, 4)
    assert store.provenance(3) == {"subject": 3, "simulated": True}
    lh, rh = store.vertices(1)
    assert (len(lh), len(rh), lh.dtype) == (12, 7, np.int64)
    np.testing.assert_array_equal(store.read_scores(3, 4, 11), scores(3)[4:11])
    assert store.read_names(4) == NAMES[20:]
    for ask in (store.provenance, store.vertices, store.scores):
        with pytest.raises(InvalidParameterError, match=r"subject 2(.|\n)*accepted: 1, 3"):
            ask(2)


def test_few_images_take_few_bytes(tmp_path):
    store = create(tmp_path / "x.zarr", chunk_images=1024)
    assert store.pending() == [0]
    fill(store)
    assert (store.path / "subject-01/scores/c/0/0").stat().st_size == N_IMAGES * 4 * 4 + 4
    np.testing.assert_array_equal(store.read_scores(1, 0, N_IMAGES), scores(1))


def test_a_chunk_without_a_readable_image_has_its_files(tmp_path):
    store = create(tmp_path / "x.zarr")
    for subject in (1, 3):
        store.write_scores(0, subject, np.full((5, 4), np.nan, np.float32))
    store.finish_chunk(0, NAMES[:5], np.full(5, 2, np.uint8))
    assert (store.path / "subject-01/scores/c/0/0").is_file()
    assert np.isnan(store.read_scores(1, 0, 5)).all()
    assert len(store.scores(1)) == 0


def test_names_that_are_no_text_are_kept_readable(tmp_path):
    store = create(tmp_path / "x.zarr", n_images=1)
    for subject in (1, 3):
        store.write_scores(0, subject, scores(subject)[:1])
    store.finish_chunk(0, [os.fsdecode(b"caf\xe9.jpg")], np.ones(1, np.uint8))
    assert store.read_names(0) == [r"caf\udce9.jpg"]


@pytest.mark.parametrize("left", [b"", b"\x01\x01"])
def test_a_status_that_is_not_whole_does_not_count(store, left):
    whole = hash_tree(store.path)
    (store.path / "status/c/2").write_bytes(left)
    (store.path / "status/c/notes.txt").write_text("not a chunk")
    assert store.pending() == [2]
    np.testing.assert_array_equal(store.status()[8:17], [1, 1, 0, 0, 0, 0, 0, 1, 1])
    (store.path / "status/c/notes.txt").unlink()
    assert hash_tree(fill(store).path) == whole


# ---- what is refused


@pytest.mark.parametrize("kind", ["folder", "file", "store", "link"])
def test_create_takes_nothing_s_place(tmp_path, kind):
    path = tmp_path / "x.zarr"
    {
        "folder": path.mkdir,
        "file": path.touch,
        "store": lambda: create(path),
        "link": lambda: path.symlink_to("nowhere"),
    }[kind]()
    with pytest.raises(InvalidParameterError, match="exists"):
        create(path)


def test_create_is_whole_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "a file").touch()
    with pytest.raises(ResourceError, match="cannot be made"):
        create(tmp_path / "a file" / "x.zarr")
    n_written = 0
    fsync = os.fsync

    def full_after_a_while(descriptor):
        nonlocal n_written
        n_written += 1
        if n_written > 5:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_after_a_while)
        with pytest.raises(ResourceError, match="No space left"):
            create(tmp_path / "new" / "x.zarr")
    assert list((tmp_path / "new").iterdir()) == []
    # What a process left that was killed there is in nobody's way.
    (tmp_path / "new" / ".x.zarr.new" / "subject-01").mkdir(parents=True)
    create(tmp_path / "new" / "x.zarr")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x.zarr"]


def test_there_is_no_store(tmp_path):
    for path in (tmp_path / "x.zarr", tmp_path / "no" / "x.zarr"):
        with pytest.raises(StoreNotFoundError, match="there is no store"):
            Store.open(path)
    with pytest.raises(FileNotFoundError):
        Store.open(tmp_path / "x.zarr")
    assert list(tmp_path.iterdir()) == []


def edit(path, change):
    entries = json.loads(path.read_text())
    change(entries)
    path.write_text(json.dumps(entries))


def newer(store):
    edit(
        store / "zarr.json",
        lambda entries: entries["attributes"]["berg_store"].update(format_version=2, more=[]),
    )


BREAK = {
    "a file": lambda store: (shutil.rmtree(store), store.write_text("text")),
    "GroupNotFound": lambda store: (shutil.rmtree(store), store.mkdir()),
    "something else": lambda store: edit(store / "zarr.json", lambda e: e["attributes"].clear()),
    "ContainsArray": lambda store: shutil.copy(store / "status/zarr.json", store / "zarr.json"),
    "JSONDecodeError": lambda store: (store / "zarr.json").write_text('{"zarr_form'),
    "format 2": newer,
    "scores": lambda store: shutil.rmtree(store / "subject-03/scores"),
    "subject-03": lambda store: shutil.rmtree(store / "subject-03"),
    "status": lambda store: shutil.rmtree(store / "status"),
    "provenance": lambda store: edit(
        store / "subject-01/zarr.json", lambda e: e["attributes"].clear()
    ),
    r"shape \(24,": lambda store: edit(
        store / "subject-03/scores/zarr.json", lambda e: e.update(shape=[24, 4])
    ),
    "IndexError": lambda store: (
        shutil.rmtree(store / "subject-01/scores"),
        shutil.copytree(store / "status", store / "subject-01/scores"),
    ),
    "int8 instead of uint8": lambda store: edit(
        store / "status/zarr.json", lambda e: e.update(data_type="int8")
    ),
    "lh_vertices/c/0": lambda store: (store / "subject-01/lh_vertices/c/0").unlink(),
    "checksum": lambda store: (store / "subject-01/rh_vertices/c/0").write_bytes(bytes(60)),
}


@pytest.mark.parametrize("got", BREAK)
def test_what_is_no_store_is_told(store, got):
    BREAK[got](store.path)
    with pytest.raises(FileFormatError, match=f"x.zarr(.|\n)*got:.*{got}(.|\n)*do:"):
        Store.open(store.path)


def test_a_store_that_may_not_be_read(store, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ResourceError, match="Permission denied"):
        Store.open(store.path)
    with pytest.raises(ResourceError, match="Permission denied"):
        store.read_scores(1, 0, 5)
    with pytest.raises(ResourceError, match="Permission denied"):
        store.status()


def test_other_parameters_are_refused_with_every_difference(store):
    store.check_recipe(RECIPE)
    with pytest.raises(InvalidParameterError) as caught:
        store.check_recipe(replace(RECIPE, n_images=24, berg_version="2.0"))
    assert "the store has 23; asked for 24" in str(caught.value)
    assert "the store has 1.0; asked for 2.0" in str(caught.value)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda s: s.write_scores(0, 1, scores(1)[:4]), r"got: +\(4, 4\)\n.*\(5, 4\)"),
        (lambda s: s.write_scores(4, 1, scores(1)[:5]), r"\(3, 4\)"),
        (lambda s: s.write_scores(0, 1, scores(1)[:5, :3]), r"got: +\(5, 3\)"),
        (lambda s: s.write_scores(0, 2, scores(1)[:5]), "subject 2"),
        (lambda s: s.write_scores(5, 1, scores(1)[:5]), "no chunk 5"),
        (lambda s: s.finish_chunk(0, NAMES[:4], status()[:5]), "image_name"),
        (lambda s: s.finish_chunk(0, NAMES[:5], status()[:4]), "status"),
        (lambda s: s.finish_chunk(0, NAMES[:5], np.zeros(5, np.uint8)), "1 .encoded."),
        (lambda s: s.write_responses(0, 1, *(r[:5] for r in responses(1))), "scores only"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, call, match):
    store = create(tmp_path / "x.zarr")
    for subject in (1, 3):
        store.write_scores(0, subject, scores(subject)[:5])
    with pytest.raises(InvalidParameterError, match=match):
        call(store)
    assert store.pending() == [0, 1, 2, 3, 4]


def test_a_chunk_is_not_finished_before_all_of_it_is_written(tmp_path):
    store = create(tmp_path / "x.zarr", dtype="float32")
    store.write_scores(0, 1, scores(1)[:5])
    store.write_scores(0, 3, scores(3)[:5])
    store.write_responses(0, 1, *(values[:5] for values in responses(1)))
    with pytest.raises(InvalidParameterError, match=r"no .*subject-03/lh/c/0/0"):
        store.finish_chunk(0, NAMES[:5], status()[:5])
    assert not store.is_done()[0]


def test_a_response_that_float16_cannot_hold(tmp_path):
    store = create(tmp_path / "x.zarr", dtype="float16")
    lh, rh = (values[:5] for values in responses(1))
    lh[0, :2] = np.nan, 1e5
    with pytest.raises(InvalidParameterError, match=r"up to 100000(.|\n)*65504(.|\n)*float32"):
        store.write_responses(0, 1, lh, rh)


# ---- damage


def lose(path):
    path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [lose, cut, flip, empty])
@pytest.mark.parametrize("i_chunk", [1, 4])  # the last one is shorter than its file
@pytest.mark.parametrize("name", ["subject-03/scores/c/{}/0", "image_name/c/{}"])
def test_damage_is_found_and_mended_as_the_message_says(store, damage, i_chunk, name):
    whole = hash_tree(store.path)
    damage(store.path / name.format(i_chunk))
    images = RECIPE.chunk(i_chunk)
    read = partial(store.read_scores, 3, 0, N_IMAGES) if "scores" in name else store.names
    with pytest.raises(FileFormatError) as caught:
        list(read())
    message = str(caught.value)
    assert f"images {images.start} to {images.stop - 1} is damaged" in message
    if damage in (lose, cut) and "scores" in name:
        assert str(store.path / name.format(i_chunk)) in message
    other = store.read_scores(3, 10, 15)  # what is whole is still read
    np.testing.assert_array_equal(other, scores(3)[10:15])
    to_delete = store.path / "status/c" / str(i_chunk)
    assert f"delete {to_delete} and run" in message
    to_delete.unlink()
    assert hash_tree(fill(Store.open(store.path)).path) == whole


def test_a_damaged_status_is_told(store):
    flip(store.path / "status/c/1")
    with pytest.raises(FileFormatError, match="status of images 5 to 9 is damaged"):
        store.status()


# ---- interrupted


def test_a_full_disk_keeps_what_is_done(tmp_path, complete):
    path = tmp_path / "x.zarr"
    done = run(
        """
import resource
from berg.errors import ResourceError
store = fill(create(Path(sys.argv[1])), [0, 1])
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (50, hard))  # scores of a chunk are 84 bytes
try:
    fill(store)
except ResourceError as error:
    sys.stderr.write(str(error))
""",
        path,
    )
    assert done.returncode == 0
    assert f"chunk 2 cannot be written to {path}" in done.stderr
    assert "File too large" in done.stderr
    assert "run the same command again: all chunks that are done are kept" in done.stderr
    assert not list(path.rglob("*.part*"))
    store = Store.open(path)
    assert store.pending() == [2, 3, 4]
    assert hash_tree(fill(store).path) == hash_tree(complete["scores"].path)


# In the first file of a chunk, in its names, in a later chunk.
@pytest.mark.parametrize("n_fsyncs", [1, 3, 12])
def test_a_killed_process_leaves_a_store_that_goes_on(tmp_path, complete, n_fsyncs):
    path = tmp_path / "x.zarr"
    done = run(
        """
import signal
store = fill(create(Path(sys.argv[1])), [3])
left, fsync = int(sys.argv[2]), os.fsync
def die_in_time(descriptor):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)
os.fsync = die_in_time
fill(store)
""",
        path,
        n_fsyncs,
    )
    assert done.returncode == -9
    store = Store.open(path)
    assert not store.is_done().all()
    assert store.is_done()[3]
    with store.hold():
        store.remove_partial_files()
        assert not list(path.rglob("*.part"))
        fill(store)
    assert hash_tree(path) == hash_tree(complete["scores"].path)


def test_partial_files_are_removed_only_of_pending_chunks(tmp_path):
    store = fill(create(tmp_path / "x.zarr"), [0])
    scores_folder = store.path / "subject-01/scores/c"
    (scores_folder / "1").mkdir()
    left = [
        scores_folder / "1" / ".0.0123.part",
        store.path / "image_name/c/.1.0123.part",
        store.path / "status/c/.1.0123.part",
    ]
    for path in left:
        path.touch()
    before = hash_tree(store.path)
    store.remove_partial_files()
    names = {str(path.relative_to(store.path)) for path in left}
    assert hash_tree(store.path) == {k: v for k, v in before.items() if k not in names}


def test_a_second_process_is_told_who_holds_the_store(store):
    code = """
from berg.errors import ResourceError
store = Store.open(sys.argv[1])
print(store.pending(), store.status().sum())
try:
    with store.hold():
        print("held")
except ResourceError as error:
    print(error)
"""
    with store.hold():
        told = run(code, store.path)
    assert told.stdout.startswith("[] 26\n")  # it may be read meanwhile
    assert f"process {os.getpid()} on" in told.stdout
    assert "held" in run(code, store.path).stdout.splitlines()
    assert not [path for path in store.path.rglob("*") if "lock" in path.name]


# ---- gone


def test_a_store_that_is_gone_is_not_made_again(tmp_path, complete):
    store = create(tmp_path / "x.zarr")
    sent = pickle.loads(pickle.dumps(store))  # noqa: S301 - as to a worker
    shutil.rmtree(store.path)
    for opened in (store, sent):
        with pytest.raises(ResourceError, match=r"x\.zarr is gone"):
            opened.write_scores(0, 1, scores(1)[:5])
        with pytest.raises(ResourceError, match=r"x\.zarr is gone"):
            opened.finish_chunk(0, NAMES[:5], status()[:5])
        with pytest.raises(FileFormatError, match="is missing"):
            opened.read_scores(1, 0, 5)
    assert not store.path.exists()
    create(store.path)  # the same again: what is written is right
    assert hash_tree(fill(store).path) == hash_tree(complete["scores"].path)


def test_another_store_in_its_place_is_left_alone(tmp_path):
    store = create(tmp_path / "x.zarr")
    shutil.rmtree(store.path)
    other = fill(create(store.path, weights_sha256=("a", "b")), [0])
    before = hash_tree(other.path)
    with pytest.raises(ResourceError, match=r"x\.zarr was replaced"):
        fill(store)
    assert hash_tree(other.path) == before


def test_an_array_that_is_gone_is_not_made_again(store):
    folder = store.path / "subject-01" / "scores"
    shutil.rmtree(folder)
    with pytest.raises(ResourceError, match=r"chunk 0 cannot be written(.|\n)*scores is gone"):
        store.write_scores(0, 1, scores(1)[:5])
    assert not folder.exists()
