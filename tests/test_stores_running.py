"""Runs that end, that are stopped anywhere, and that are refused."""

import errno
import io
import os
import pickle
import shutil
import tarfile
from contextlib import contextmanager

import numpy as np
import pytest
import torch

import berg.atomic
from berg import BERG
from berg.cluster import WorkerInfo
from berg.errors import (
    BERGWarning,
    FileFormatError,
    ImageFileError,
    InvalidParameterError,
    ResourceError,
    WeightsNotFoundError,
)
from berg.locks import hold
from berg.model_set import EncodingModels
from berg.stores import Store, encoding, running
from berg.stores.reading import open_store
from berg.stores.running import encode_to_store
from berg.weights import save_npy
from conftest import MODEL_ID
from run_fixture import add_second_subject, read_images, share_network, write_hdf5, write_images
from store_fixture import hash_tree

N_IMAGES = 5
OPTIONS = {"chunk_images": 2, "device": "cpu", "show_progress": False}


class Stopped(BaseException):
    """What a test raises where a process might be killed."""


@pytest.fixture
def photos(tmp_path):
    return write_images(tmp_path / "photos", N_IMAGES)


@pytest.fixture
def run(tiny, tiny_metadata, photos, tmp_path, monkeypatch):
    """Encode the photographs for both subjects; what differs is given."""
    add_second_subject(tiny, tiny_metadata)
    share_network(monkeypatch)

    def encode(name="s.zarr", sources=(photos,), subjects=(1, 2), **options):
        options = {**OPTIONS, "berg_dir": tiny.berg_dir, **options}
        return encode_to_store(sources, tmp_path / name, subjects, **options)

    return encode


def test_a_run_says_what_it_did(run, tmp_path):
    told = []
    done = run(tell=told.append)
    assert done.path == tmp_path / "s.zarr"
    assert (done.n_encoded, done.unreadable, done.n_cropped, done.n_small) == (5, (), 0, 0)
    assert (done.plan.n_chunks, done.plan.n_done) == (3, 0)
    assert [line for line in told if line.startswith("5 images in 3 chunks; ")] == [str(done.plan)]


def test_opened_it_gives_the_models_responses(run, tiny, photos, tmp_path):
    run()
    for subject in (1, 2):
        responses = open_store(tmp_path / "s.zarr", subject=subject, berg_dir=tiny.berg_dir)
        model = BERG(tiny.berg_dir).get_encoding_model(MODEL_ID, "cpu", subject=subject)
        expected = model.generate_response(read_images(photos), show_progress=False)
        for ours, theirs in zip(responses.compute(), expected, strict=True):
            # Batches of other sizes round differently in float32.
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
        assert list(responses.names) == [f"{photos}/{i:02}.png" for i in range(N_IMAGES)]


def test_sources_of_all_kinds_give_the_same_scores(run, photos, tmp_path):
    images = read_images(photos)
    np.save(tmp_path / "images.npy", images)
    with tarfile.open(tmp_path / "shard-0.tar", "w") as shard:
        for path in sorted(photos.iterdir()):
            shard.add(path, path.name)
    (tmp_path / "list.txt").write_text("\n".join(f"photos/{i:02}.png" for i in range(N_IMAGES)))
    hdf5 = write_hdf5(tmp_path / "images.hdf5", photos)
    files = [tmp_path / name for name in ("images.npy", "shard-0.tar", "list.txt")]
    run(sources=[photos, *files, hdf5], subjects=[1], chunk_images=N_IMAGES)
    scores = Store.open(tmp_path / "s.zarr").read_scores(1, 0, 5 * N_IMAGES)
    first, *others = scores.reshape(5, N_IMAGES, -1)
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_a_complete_store_is_left_alone(run, tmp_path, monkeypatch):
    run()
    before = hash_tree(tmp_path / "s.zarr")
    monkeypatch.setattr(running, "load_models", lambda *a: pytest.fail("was loaded"))
    told = []
    again = run(tell=told.append)
    assert told[-1] == f"{tmp_path / 's.zarr'} is complete already"
    assert (again.n_encoded, again.plan.n_done) == (0, 3)
    assert hash_tree(tmp_path / "s.zarr") == before


# --- stopped


@pytest.mark.parametrize("dtype", ["scores", "float16"])
def test_stopped_in_every_step_it_ends_with_the_same_bytes(run, tmp_path, monkeypatch, dtype):
    run("whole.zarr", dtype=dtype)
    steps = ["create", "write_scores", "finish_chunk"]
    if dtype != "scores":
        steps.insert(2, "write_responses")
    path = tmp_path / "s.zarr"
    for step in steps:
        original = getattr(Store, step)

        def stop(*arguments, original=original, **options):
            original(*arguments, **options)  # the work is done, and then nobody comes to know
            raise Stopped

        with monkeypatch.context() as patch:
            patch.setattr(Store, step, staticmethod(stop) if step == "create" else stop)
            with pytest.raises(Stopped):
                run(dtype=dtype)
    assert len(Store.open(path).pending()) == 2
    kept = {file: file.stat().st_ino for file in path.rglob("c/**/0") if file.is_file()}
    run(dtype=dtype)
    assert hash_tree(path) == hash_tree(tmp_path / "whole.zarr")
    status = path / "status" / "c" / "0"
    assert status.stat().st_ino == kept[status]  # what is done is not done again


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ZeroDivisionError])
def test_interrupted_it_says_what_is_kept(run, tmp_path, monkeypatch, kind):
    original = Store.write_scores

    def interrupt(store, i_chunk, *rest):
        if i_chunk == 1:
            raise kind
        original(store, i_chunk, *rest)

    monkeypatch.setattr(Store, "write_scores", interrupt)
    told = []
    with pytest.raises(kind):
        run(tell=told.append)
    assert told[-1].startswith(f"stopped: 1 of 3 chunks are kept in {tmp_path / 's.zarr'}")
    with hold(tmp_path / "s.zarr"):
        pass  # the lock is given back


def test_a_disk_that_fills_up_is_said_and_what_is_done_is_kept(run, tmp_path, monkeypatch):
    run("whole.zarr")
    path = tmp_path / "s.zarr"
    fsync = os.fsync

    def full(descriptor):
        if (path / "status" / "c" / "0").exists():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    told = []
    with monkeypatch.context() as patch:
        patch.setattr(berg.atomic.os, "fsync", full)
        with pytest.raises(ResourceError, match="No space left on device"):
            run(tell=told.append)
    assert told[-1].startswith("stopped: 1 of 3 chunks are kept")
    run()
    assert hash_tree(path) == hash_tree(tmp_path / "whole.zarr")


def test_a_corrupt_image_in_a_shard_is_named_and_can_be_skipped(run, photos, tmp_path):
    shard = tmp_path / "shard-0.tar"
    with tarfile.open(shard, "w") as archive:
        for i, path in enumerate(sorted(photos.iterdir())):
            content = path.read_bytes()
            content = content[: len(content) // 2] if i == 3 else content
            member = tarfile.TarInfo(path.name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    told = []
    with pytest.raises(ImageFileError, match=r"shard-0\.tar:03\.png cannot be read"):
        run(sources=[shard], tell=told.append)
    assert told[-1].startswith("stopped: 1 of 3 chunks are kept")
    done = run(sources=[shard], skip_bad=True)
    assert done.n_encoded == 3
    (line,) = done.unreadable
    assert "shard-0.tar:03.png" in line
    run("whole.zarr", sources=[shard], skip_bad=True)
    assert hash_tree(tmp_path / "s.zarr") == hash_tree(tmp_path / "whole.zarr")


def test_a_store_that_disappears_ends_the_run(run, tmp_path, monkeypatch):
    original = Store.finish_chunk

    def remove(store, i_chunk, *rest):
        if i_chunk == 1:
            shutil.rmtree(store.path)
        original(store, i_chunk, *rest)

    monkeypatch.setattr(Store, "finish_chunk", remove)
    told = []
    with pytest.raises(ResourceError, match=r"s\.zarr is gone"):
        run(tell=told.append)
    assert told[-1] == f"stopped: nothing is kept, there is no {tmp_path / 's.zarr'}"
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("no 9 GB"),
        torch.OutOfMemoryError("no 9 GB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: no 9 GB"),
    ],
)
def test_memory_that_runs_out_is_said(run, monkeypatch, error):
    def fail(*arguments):
        raise error

    monkeypatch.setattr(EncodingModels, "scores", fail)
    told = []
    with pytest.raises(ResourceError, match=r"memory on the device cpu\n.*no 9 GB\n.*--device"):
        run(tell=told.append)
    assert told[-1].startswith("stopped: 0 of 3 chunks are kept")


def test_a_run_without_a_readable_image_stops_at_once(run, photos, tmp_path):
    for i in range(2, N_IMAGES):
        (photos / f"{i:02}.png").write_text("no image")
    assert len(run(skip_bad=True).unreadable) == 3  # after good ones, whole chunks may be bad
    for i in range(2):
        (photos / f"{i:02}.png").write_text("no image")
    with pytest.raises(ImageFileError, match=r"no image can be read\n.*2 unreadable"):
        run("bad.zarr", skip_bad=True)
    assert Store.open(tmp_path / "bad.zarr").pending() == [0, 1, 2]


# --- refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subjects": [1]}, "subjects: the store has 1, 2; asked for 1"),
        ({"rois": ["V1v"]}, "regions: the store has the whole surface; asked for V1v"),
        ({"dtype": "float32"}, "dtype: the store has scores; asked for float32"),
        ({"chunk_images": 3}, "chunk: the store has 2; asked for 3"),
    ],
)
def test_a_store_of_other_parameters_is_refused(run, tmp_path, monkeypatch, changes, message):
    begin_only(run, monkeypatch)
    before = hash_tree(tmp_path / "s.zarr")
    with pytest.raises(InvalidParameterError, match=message):
        run(**changes)
    assert hash_tree(tmp_path / "s.zarr") == before


def begin_only(run, monkeypatch):
    """Begin a store, and stop before the first image."""
    with monkeypatch.context() as patch:
        patch.setattr(running, "encode_chunks", stop)
        with pytest.raises(Stopped):
            run()


def stop(*arguments, **options):
    raise Stopped


def test_other_images_are_refused(run, photos, monkeypatch):
    begin_only(run, monkeypatch)
    os.utime(photos / "01.png", ns=(1, 1))
    with pytest.raises(InvalidParameterError, match="images: other names, order, sizes or times"):
        run()
    (photos / "01.png").unlink()
    with pytest.raises(InvalidParameterError, match="number of images: the store has 5; asked fo"):
        run()


def test_other_weights_are_refused(run, tiny, monkeypatch):
    begin_only(run, monkeypatch)
    save_npy(tiny.weights_npy, tiny.scaler, tiny.pca, tiny.rh, tiny.lh)
    tiny.weights_npy.with_suffix(".safetensors").unlink()
    with pytest.raises(InvalidParameterError, match="weights of subject 1: the store was made"):
        run()


def test_a_second_process_is_told_who_holds_the_store(run, tmp_path):
    with (
        hold(tmp_path / "s.zarr"),
        pytest.raises(ResourceError, match=f"lock held by process {os.getpid()}"),
    ):
        run()


def test_a_complete_store_needs_no_lock(run, monkeypatch):
    run()
    monkeypatch.setattr(running, "hold", lambda path: pytest.fail("was locked"))
    assert run().n_encoded == 0


def test_a_store_has_one_lock_whatever_it_is_called(run, tmp_path):
    (tmp_path / "link.zarr").symlink_to("s.zarr")
    with pytest.raises(InvalidParameterError, match=r"leads nowhere\n  got: +a link to s\.zarr"):
        run("link.zarr")
    (tmp_path / "link.zarr").unlink()
    run()
    (tmp_path / "s.zarr/status/c/0").unlink()
    (tmp_path / "link.zarr").symlink_to("s.zarr")
    with hold(tmp_path / "s.zarr"), pytest.raises(ResourceError, match="another process"):
        run("link.zarr")
    assert run("link.zarr").path == tmp_path / "s.zarr"


def test_something_other_than_a_store_is_left_alone(run, tmp_path):
    with pytest.raises(FileFormatError, match="/ is not a store"):
        run("/")
    (tmp_path / "s.zarr").mkdir()
    (tmp_path / "s.zarr" / "precious.txt").write_text("mine")
    with pytest.raises(FileFormatError, match=r"s\.zarr is not a store"):
        run()
    assert hash_tree(tmp_path / "s.zarr").keys() == {"precious.txt"}


@pytest.mark.parametrize("check", ["check_disk", "check_memory"])
def test_what_cannot_fit_is_refused_before_anything_is_made(run, tmp_path, monkeypatch, check):
    def refuse(*arguments):
        raise ResourceError("too little")

    monkeypatch.setattr(running, check, refuse)
    for dry_run in (True, False):
        with pytest.raises(ResourceError, match="too little"):
            run(dry_run=dry_run)
    assert not (tmp_path / "s.zarr").exists()


def test_a_dry_run_writes_nothing(run, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    told = []
    plan = run(dry_run=True, tell=told.append).plan
    assert told == [str(plan)]
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_asked_for_must_be_there(run, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ImageFileError, match=r"no file or folder absent\.png"):
        run(sources=["absent.png"])
    with pytest.raises(WeightsNotFoundError, match="no weights of subject 3"):
        run(subjects=[1, 3])
    with pytest.raises(InvalidParameterError, match="either started here or those of a scheduler"):
        run(n_workers=2, scheduler="tcp://localhost:8786")
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(InvalidParameterError, match="there is no device 'tpu'"):
        run(device="tpu")
    assert not (tmp_path / "s.zarr").exists()


def test_a_simulated_subject_is_said(run, tiny, tiny_metadata):
    from berg.metadata import save_metadata

    save_metadata(tiny.metadata_npy, tiny_metadata | {"provenance": {"simulated": True}})
    told = []
    run(dry_run=True, tell=told.append)
    assert told[0] == "Subject 1 is SIMULATED: not measured in a brain."


# --- workers


@pytest.fixture
def fake_cluster(monkeypatch):
    """Workers that are this process, and do the tasks backwards; arguments go through pickle."""
    monkeypatch.setattr(encoding, "_loaded", None)
    asked = []

    class Cluster:
        workers = (WorkerInfo("tcp://a:1", "a", 10**13, 1), WorkerInfo("tcp://b:1", "b", None, 1))

        def run(self, function, tasks, *, name):
            for task in reversed([*tasks]):
                assert name(*task).startswith(f"chunk {task[1]} of 3, images {2 * task[1]} to ")
                arguments = pickle.dumps((function, task))
                assert len(arguments) < 5000
                function, task = pickle.loads(arguments)  # noqa: S301
                yield pickle.loads(pickle.dumps(function(*task)))  # noqa: S301

    @contextmanager
    def connect(**options):
        asked.append(options)
        yield Cluster()

    monkeypatch.setattr(running, "connect", connect)
    return asked, Cluster


def test_workers_give_the_same_bytes(run, tmp_path, fake_cluster):
    run("whole.zarr")
    done = run(n_workers=8)
    assert done.n_encoded == N_IMAGES
    assert done.plan.n_workers == 3
    assert hash_tree(tmp_path / "s.zarr") == hash_tree(tmp_path / "whole.zarr")
    asked, _ = fake_cluster
    assert asked[0]["n_workers"] == 3  # there is no work for more
    run("scheduled.zarr", scheduler="tcp://a:1")
    assert asked[1]["scheduler"] == "tcp://a:1"
    assert hash_tree(tmp_path / "scheduled.zarr") == hash_tree(tmp_path / "whole.zarr")


def test_what_computes_is_decided_here_for_workers_of_this_machine(run, monkeypatch, fake_cluster):
    def note(store, berg_dir, recipe, device, skip_bad):
        devices.append(device)
        raise Stopped

    devices = []
    monkeypatch.setattr(running, "Job", note)
    monkeypatch.setattr(running, "pick_device", lambda name: torch.device("cuda"))
    for options in ({"n_workers": 1}, {"scheduler": "tcp://a:1"}):
        with pytest.raises(Stopped):
            run(device="auto", **options)
    with (
        pytest.warns(BERGWarning, match="2 workers share the device cuda"),
        pytest.raises(Stopped),
    ):
        run(device="auto", n_workers=2)
    assert devices == ["cuda", "auto", "cuda"]


def test_an_unreadable_image_at_a_worker_ends_the_run(run, photos, tmp_path, fake_cluster):
    (photos / "02.png").write_text("no image")
    told = []
    with pytest.raises(ImageFileError, match=r"02\.png cannot be read"):
        run(n_workers=2, tell=told.append)
    assert told[-1].startswith("stopped: 1 of 3 chunks are kept")
    assert run(n_workers=2, skip_bad=True).n_encoded == 4


def test_workers_too_small_are_refused(run, tmp_path, fake_cluster, monkeypatch):
    _, cluster = fake_cluster
    monkeypatch.setattr(cluster, "workers", [WorkerInfo("tcp://a:1", "a", 10**8, 1)])
    with pytest.raises(ResourceError, match="too little memory of the worker tcp://a:1"):
        run(scheduler="tcp://a:1")
    assert not (tmp_path / "s.zarr").exists()
