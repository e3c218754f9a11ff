"""Tasks on real workers: in processes of this machine, and those of a scheduler."""

from __future__ import annotations

import operator
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

import berg
from berg import errors
from berg.cluster import Cluster, Failure, WorkerInfo, connect, connecting, tell
from berg.errors import (
    BERGWarning,
    ImageFileError,
    InvalidParameterError,
    MissingExtraError,
    ResourceError,
)
from documented import blocks, section

pytestmark = pytest.mark.enable_socket  # of this machine alone

PATIENCE = 60  # seconds; what these tests wait for takes less than five


@pytest.fixture(scope="module")
def told():
    return []


@pytest.fixture(scope="module")
def cluster(told):
    """Two local workers."""
    with connect(n_workers=2, tell=told.append) as cluster:
        yield cluster


@pytest.fixture
def remote():
    """A scheduler without workers that counts a task as bad after one worker is killed."""
    import dask
    from distributed import LocalCluster

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(
            n_workers=0,
            threads_per_worker=3,
            memory_limit="2 GB",
            scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
            silence_logs=50,
        ) as remote,
    ):
        yield remote


# What workers do.


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def hang_once(flag: Path, number: int) -> int:
    """Write who does it, and hang; the second time, do it."""
    if number == 0 and not flag.exists():
        flag.with_suffix(".new").write_text(str(os.getpid()))
        flag.with_suffix(".new").rename(flag)
        time.sleep(PATIENCE)
    return number


def end_worker(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def fail(kind: type[Exception], *text):
    try:
        raise KeyError("the cause")
    except KeyError as err:
        raise kind(*text) from err


def warn_and_tell(number: int) -> int:
    errors.warn("mind the gap")
    tell(f"line of {number}")
    return number


def leave_mark(folder: Path, number: int) -> int:
    (folder / str(number)).touch()
    time.sleep(0.05)
    return number


def interval(seconds: float) -> tuple[float, float]:
    start = time.monotonic()
    time.sleep(seconds)
    return start, time.monotonic()


def threads() -> tuple[int, str]:
    import torch

    return torch.get_num_threads(), os.environ["OMP_NUM_THREADS"]


def test_results_are_those_of_the_function(cluster):
    numbers = list(range(50))
    assert sorted(cluster.run(operator.mul, ((n, n) for n in numbers))) == [n * n for n in numbers]
    assert list(cluster.run(operator.mul, [])) == []


def test_workers_are_known(cluster):
    first, second = cluster.workers
    assert first.host == "127.0.0.1"
    assert first.address != second.address
    assert first.memory_limit_bytes is None
    cluster.check_same_berg()


def test_workers_share_the_cores(cluster):
    from dask.system import cpu_count

    each = max(1, cpu_count() // 2)
    assert {worker.n_threads for worker in cluster.workers} == {each}
    assert set(cluster.run(threads, [()] * 4)) == {(each, str(each))}


def test_tasks_are_drawn_as_they_are_wanted(cluster):
    n_drawn = 0

    def tasks():
        nonlocal n_drawn
        while True:  # without end: they can never all be drawn
            n_drawn += 1
            yield n_drawn, 0

    run = cluster.run(operator.add, tasks())
    for n_done in range(1, 31):
        next(run)
        assert n_drawn - n_done < 4  # two for each worker, one of which is done
    run.close()


def test_the_task_of_a_killed_worker_runs_again(cluster, tmp_path):
    flag = tmp_path / "flag"

    def kill():
        wait_for(flag.exists)
        os.kill(int(flag.read_text()), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert sorted(cluster.run(hang_once, ((flag, n) for n in range(10)))) == list(range(10))
    killer.join()
    wait_for(lambda: len(cluster.workers) == 2)  # it is started again


def test_our_errors_arrive_as_they_were_raised(cluster):
    error = ImageFileError("no image", got="nothing", do="look")
    with pytest.raises(ImageFileError) as caught:
        list(cluster.run(fail, [(ImageFileError, str(error))]))
    text, _, worker = str(caught.value).rpartition("\n  on:       ")
    assert text == str(error)
    assert worker in {worker.address for worker in cluster.workers}
    (note,) = caught.value.__notes__
    assert "KeyError: 'the cause'" in note


def test_other_errors_arrive_too(cluster):
    with pytest.raises(ZeroDivisionError):
        list(cluster.run(operator.truediv, [(1, 0)]))


def test_a_long_error_arrives_whole(cluster):
    with pytest.raises(ResourceError) as caught:
        list(cluster.run(fail, [(ResourceError, "long " * 10_000)]))
    assert str(caught.value).count("long") == 10_000


def test_others_are_done_when_asked_to_keep_going(cluster):
    tasks = [(n, kind) for n in range(6) for kind in (ResourceError,) if n != 3]
    results = list(cluster.run(fail_at_two, tasks, keep_going=True))
    (failure,) = [result for result in results if isinstance(result, Failure)]
    assert failure.task == (2, ResourceError)
    assert str(failure.error).startswith("two\n  on:       tcp://127.0.0.1:")
    assert sorted(result for result in results if result is not failure) == [0, 1, 4, 5]


def fail_at_two(number: int, kind: type[Exception]) -> int:
    if number == 2:
        raise kind("two")
    return number


def test_lines_and_warnings_come_back(cluster, told):
    told.clear()
    with pytest.warns(BERGWarning) as caught:
        results = list(cluster.run(warn_and_tell, [(1,), (2,)]))
    assert sorted(results) == [1, 2]
    assert sorted(told) == ["line of 1", "line of 2"]
    (warning,) = caught  # the text is the same
    assert str(warning.message) == "mind the gap"
    assert warning.filename == __file__


def test_what_has_not_begun_is_cancelled(cluster, tmp_path):
    run = cluster.run(leave_mark, ((tmp_path, n) for n in range(1000)))
    next(run)
    run.close()
    wait_for(lambda: list(cluster.run(operator.add, [(1, 1)])) == [2])
    n_begun = len(list(tmp_path.iterdir()))
    time.sleep(0.3)
    assert len(list(tmp_path.iterdir())) == n_begun <= 5


def test_an_error_of_the_tasks_themselves_is_raised(cluster):
    def tasks():
        yield 1, 2
        raise StopAsyncIteration("no more")

    with pytest.raises(StopAsyncIteration):
        list(cluster.run(operator.add, tasks()))


def test_another_version_of_berg_is_refused(cluster, monkeypatch):
    monkeypatch.setattr(berg, "__version__", "9.9")
    with pytest.raises(ResourceError, match=r"another version of berg\n  got: .* on tcp://"):
        list(cluster.run(operator.add, [(1, 1)]))


class Answers:
    """A client that gives versions."""

    id = "x"

    def __init__(self, **there):
        here = {"berg": "1", "numpy": "2", "torch": "3", "python": "4"}
        self.versions = {
            "client": {"packages": here},
            "workers": {"tcp://a:1": {"packages": here}, "tcp://b:2": {"packages": here | there}},
        }

    def subscribe_topic(self, topic, handler):
        pass

    def get_versions(self, packages):
        return self.versions


def test_workers_are_compared(caplog):
    Cluster(Answers(), "", print, "").check_same_berg()
    assert not caplog.records
    Cluster(Answers(numpy="1"), "", print, "").check_same_berg()
    assert caplog.messages == ["worker tcp://b:2 has numpy 1 (here 2)"]
    for version, said in (("0", "0"), (None, "none")):
        with pytest.raises(ResourceError, match=f"got:      {said} on tcp://b:2"):
            Cluster(Answers(berg=version), "", print, "").check_same_berg()


def test_workers_of_a_scheduler(remote, monkeypatch):
    """Waited for; one task at a time, on all of its threads; killed; and the scheduler lost."""
    said = []

    def add_one():
        wait_for(lambda: any("no workers yet" in line for line in said))
        remote.scale(1)

    adding = threading.Thread(target=add_one)
    adding.start()
    monkeypatch.setattr("berg.cluster.running._LOOK_SECONDS", 0.1)
    address = remote.scheduler_address
    with connect(scheduler=address.removeprefix("tcp://"), tell=said.append) as cluster:
        adding.join()
        assert f"dask worker {address}" in said[0]
        assert said[1] == f"1 worker at {address}"
        (worker,) = cluster.workers
        assert worker == WorkerInfo(worker.address, "127.0.0.1", 2 * 10**9, 3)
        assert next(cluster.run(threads, [()]))[0] == 3

        spans = sorted(cluster.run(interval, [(0.1,)] * 4))
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))

        with pytest.raises(ResourceError, match=r"killed again .* this task: the bad one"):
            list(cluster.run(end_worker, [(1,)], name=lambda number: "the bad one"))

        run = cluster.run(interval, [(0.1,)] * 1000)
        next(run)
        remote.close()
        with pytest.raises(ResourceError, match="connection to the scheduler was lost"):
            list(run)


def test_a_scheduler_that_is_not_there(monkeypatch):
    monkeypatch.setattr(connecting, "_CONNECT_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes the call and says nothing
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ResourceError, match=f"no scheduler .*\n  got: +tcp://{address}"):
            connect(scheduler=address).__enter__()
    with pytest.raises(ResourceError, match=f"no scheduler .*\n  got: +tcp://{address}"):
        connect(scheduler=f"tcp://{address}").__enter__()


@pytest.mark.parametrize(
    "address",
    ["", "host", "host:", "host:port", ":8786", "tcp://host", "http://host:80", "host:99999999"],
)
def test_what_is_no_address_is_refused(address):
    with pytest.raises(InvalidParameterError, match="not the address of a scheduler"):
        connect(scheduler=address).__enter__()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either started on this machine, or those of a scheduler"),
        ({"n_workers": 1, "scheduler": "host:1"}, "either started on this machine"),
        ({"n_workers": 0}, "n_workers is not a number of them"),
        ({"n_workers": 2.0}, "n_workers is not a number of them"),
        ({"n_workers": True}, "n_workers is not a number of them"),
        ({"n_workers": 1, "n_threads": -1}, "n_threads is not a number of them"),
        ({"scheduler": "host:1", "n_threads": 1}, "have their own number of threads"),
    ],
)
def test_bad_parameters_are_refused(options, message):
    with pytest.raises(InvalidParameterError, match=message):
        connect(**options).__enter__()


def test_without_dask_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r'pip install "berg\[scale\]"'):
        connect(n_workers=1).__enter__()


def test_a_script_without_a_guard_is_told(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from berg.cluster import connect\nwith connect(n_workers=1): pass\n")
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith(
        '`if __name__ == "__main__":`, because each worker imports the script'
    )


def test_the_environment_is_as_before(monkeypatch):
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    before = dict(os.environ)
    with connect(n_workers=1, n_threads=2) as cluster:
        assert list(cluster.run(threads, [()])) == [(2, "2")]
    assert dict(os.environ) == before


OUR_ERRORS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, errors.BERGError)
]


@pytest.mark.parametrize("kind", OUR_ERRORS)
def test_errors_travel_between_processes(kind):
    error = kind("problem", got="this", accepted="that", do="so")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(again) is kind
    assert str(again) == str(error)
    assert again.args == error.args


def test_the_example_on_slurm_asks_for_the_jobs_that_it_says():
    script = blocks(section("docs/clusters.md", "SLURM"), "python")[0]
    script = script.replace('"ib0"', repr(loopback()))
    names = {"__name__": "on_slurm"}
    interrupted = signal.getsignal(signal.SIGINT)
    exec(script, names)
    signal.signal(signal.SIGINT, interrupted)  # importing dask-jobqueue replaces it for good
    with names["slurm_workers"]() as workers:
        job = workers.job_script()
        address = workers.scheduler_address
    for line in ("-A my-account", "-p cpu", "--cpus-per-task=4", "--mem=15G", "-t 04:00:00"):
        assert f"#SBATCH {line}\n" in job
    for line in ("OMP_NUM_THREADS=4", "BERG_CACHE_DIR=/shared/berg_cache"):
        assert f"export {line}\n" in job
    (start,) = (line for line in job.splitlines() if "dask_worker" in line)
    assert start.startswith(f"/shared/env/bin/python -m distributed.cli.dask_worker {address} ")
    for option in (
        *("--nthreads 4", "--memory-limit 14.90GiB", "--nanny", "--local-directory /tmp"),
        *("--lifetime 225m", "--lifetime-stagger 5m"),
    ):
        assert f" {option}" in start
    assert "--nworkers" not in start  # a job is a worker
    assert names["COMMAND"][0] == "encode"


def loopback() -> str:
    """The name of this machine's own network, which stands in for the cluster's."""
    return next(
        name
        for name, addresses in psutil.net_if_addrs().items()
        if any(address.address == "127.0.0.1" for address in addresses)
    )
