"""Subjects trained at the same time: the bytes of one after the other, whatever happens."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import berg.training
import nsd_tree_fixture
from berg.cli import main
from berg.cluster import WorkerInfo
from berg.errors import BERGWarning, InvalidParameterError, NSDFilesNotFoundError, ResourceError
from berg.locks import hold
from berg.nsd.simulated import marker_path
from berg.training import parallel, train, train_in_parallel
from berg.training.plan import Plan, check_resources
from berg.training.preparing import TrainingPlan
from conftest import REAL_CARD

pytestmark = [
    pytest.mark.filterwarnings("ignore:subject . has only . test images"),
    pytest.mark.enable_socket,  # of this machine alone
]

GB = 10**9


@pytest.fixture(scope="module")
def nsd_dir(tmp_path_factory) -> Path:
    """A copy with noise in it: two subjects with few more images than a model has components."""
    folder = tmp_path_factory.mktemp("nsd") / "nsd"
    n_sessions, n_shared, n_own = 2, 4, 254
    sizes = {
        "N_SESSIONS": n_sessions,
        "SHARED": n_shared,
        "OWN": n_own,
        "N_TRIALS": 3 * (n_shared + n_own) // n_sessions,
        "N_STORED": n_shared + 2 * n_own,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, size in sizes.items():
            patch.setattr(nsd_tree_fixture, name, size)
        nsd_tree_fixture.write_nsd(folder)
    marker = marker_path(folder)  # without it, it must have the vertices of fsaverage
    marker.parent.mkdir()
    marker.write_text('{"simulated": true}')
    return folder


def outputs(berg_dir: Path) -> dict[str, str]:
    """SHA-256 of every file that a user is given."""
    return {
        str(path.relative_to(berg_dir)): hashlib.sha256(path.read_bytes()).hexdigest()
        for part in ("encoding_models", "results")
        for path in sorted((berg_dir / part).rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def serial(nsd_dir, tmp_path_factory, cache_dir) -> dict[str, str]:
    """The outputs of one subject after the other, with the threads of each of two workers."""
    threadpoolctl = pytest.importorskip("threadpoolctl")
    from dask.system import cpu_count

    n_threads, before = max(1, cpu_count() // 2), torch.get_num_threads()
    berg_dir = tmp_path_factory.mktemp("serial")
    with pytest.MonkeyPatch.context() as patch, threadpoolctl.threadpool_limits(n_threads):
        patch.setenv("BERG_CACHE_DIR", str(cache_dir))
        torch.set_num_threads(n_threads)
        try:
            with pytest.warns(BERGWarning, match="only 4 test images"):
                train(nsd_dir, [1, 2], berg_dir=berg_dir, device="cpu", show_progress=False)
        finally:
            torch.set_num_threads(before)
    made = outputs(berg_dir)
    assert len(made) == 2 * (1 + 1 + 4)
    return made


def kill_worker(folder: Path) -> None:
    """Kill the process that holds a folder, once it makes components."""
    end = time.monotonic() + 60
    while not (folder / ".unfinished-components").exists() and time.monotonic() < end:
        time.sleep(0.002)
    holder = json.loads(folder.with_name(f".{folder.name}.holder").read_text())
    os.kill(holder["pid"], signal.SIGKILL)


def test_a_subject_fails_and_a_worker_is_killed_and_the_bytes_are_the_same(
    nsd_dir, serial, tmp_path, monkeypatch
):
    told: list[str] = []
    monkeypatch.chdir(tmp_path)  # workers have another working directory
    options = {"berg_dir": "berg", "n_workers": 2, "device": "cpu", "tell": told.append}
    folder = REAL_CARD.files(tmp_path / "berg").prepared
    with (
        hold(folder / "subject-02"),
        pytest.raises(ResourceError, match=r"^subject 2: another process is at work"),
    ):
        train_in_parallel(nsd_dir, [1, 2], **options)
    assert [line.partition(":")[0] for line in told[:2]] == ["subject 1", "subject 2"]
    assert sorted(line.partition(" on ")[0] for line in told[2:]) == [
        "subject 1 begins",
        "subject 1 is trained",
        "subject 2 begins",
        "subject 2 failed",
    ]
    first = {name for name in serial if "subject-1" in name or "subject-01" in name}
    assert outputs(tmp_path / "berg") == {name: serial[name] for name in first}

    killer = threading.Thread(target=kill_worker, args=(folder / "subject-02",))
    killer.start()
    one, two = train_in_parallel(nsd_dir, [1, 2], **options)
    killer.join()
    assert (one.subject, two.subject) == (1, 2)
    assert not one.seconds
    assert two.seconds
    assert outputs(tmp_path / "berg") == serial
    assert len([line for line in told if line.startswith("subject 2 begins")]) == 3

    monkeypatch.setattr(parallel.cluster, "connect", None)  # no workers for what is done
    assert [done.seconds for done in train_in_parallel(nsd_dir, [1, 2], **options)] == [{}, {}]


def test_everything_is_looked_at_before_a_worker_starts(nsd_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(parallel.cluster, "connect", None)
    with pytest.raises(NSDFilesNotFoundError):
        train_in_parallel(tmp_path, [1, 2], n_workers=2, berg_dir=tmp_path)
    with pytest.raises(InvalidParameterError, match="no subject 3"):
        train_in_parallel(nsd_dir, [1, 3], scheduler="host:1", berg_dir=tmp_path)
    with pytest.raises(InvalidParameterError, match="either started on this machine"):
        train_in_parallel(nsd_dir, [1])
    with pytest.raises(InvalidParameterError, match="either started on this machine"):
        train_in_parallel(nsd_dir, [1], n_workers=2, scheduler="host:1")


def test_what_is_done_at_once_must_fit_together(tmp_path, monkeypatch):
    plans = [Plan(memory, 10 * memory, GB) for memory in (1 * GB, 3 * GB, 2 * GB)]

    def check(free_memory, free_disk, **options):
        monkeypatch.setattr(
            "psutil.virtual_memory", lambda: type("Memory", (), {"available": free_memory})
        )
        monkeypatch.setattr("shutil.disk_usage", lambda path: type("Disk", (), {"free": free_disk}))
        check_resources(plans, tmp_path, **options)

    # Two at once: 3 + 2 GB of memory; 30 + 20 of scratch, 3 that stay and 1 to spare.
    check(5 * GB, 54 * GB, n_at_once=2)
    with pytest.raises(ResourceError, match=r"4.9 GB free, about 5.0 GB needed\n.*fewer than 2"):
        check(4.9 * GB, 54 * GB, n_at_once=2)
    with pytest.raises(ResourceError, match=r"about 53.0 GB needed"):
        check(5 * GB, 53.9 * GB, n_at_once=2)
    check(0, 54 * GB, n_at_once=2, memory=False)  # which others have
    check(3 * GB, 34 * GB)
    check(6 * GB, 64 * GB, n_at_once=8)


def test_workers_too_small_for_a_subject_are_refused():
    plan = TrainingPlan((), {1: Plan(2 * GB, 0, 0), 2: Plan(3 * GB, 0, 0)}, 0)
    large, small = (WorkerInfo(f"tcp://a:{n}", "a", n * GB, 1) for n in (3, 2))
    parallel._check_workers(plan, [large, WorkerInfo("tcp://b:1", "b", None, 1)])
    with pytest.raises(ResourceError, match="worker tcp://a:2 has too little memory"):
        parallel._check_workers(plan, [large, small])


@pytest.mark.parametrize(
    ("arguments", "n_workers", "scheduler"),
    [(["--workers", "3"], 3, None), (["--scheduler", "host:1"], None, "host:1")],
)
def test_the_command_takes_workers(monkeypatch, arguments, n_workers, scheduler):
    asked = {}
    monkeypatch.setattr(
        berg.training, "train_in_parallel", lambda *args, **options: asked.update(options) or []
    )
    command = ["train", "--subject", "1-3", "--nsd-dir", "nsd", *arguments]
    result = CliRunner().invoke(main, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert (asked["n_workers"], asked["scheduler"]) == (n_workers, scheduler)


def test_the_command_refuses_no_workers():
    result = CliRunner().invoke(
        main, ["train", "--subject", "1", "--nsd-dir", "nsd", "--workers", "0"]
    )
    assert result.exit_code == 2
    assert "0 is not in the range" in result.stderr
