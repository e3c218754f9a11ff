import multiprocessing
import socket

import pytest

from berg.errors import ResourceError
from berg.locks import hold


def hold_until(path, held, release):
    with hold(path):
        held.set()
        release.wait(30)


@pytest.fixture
def other_process(tmp_path):
    """A process that holds the lock, and the event that lets it go."""
    spawn = multiprocessing.get_context("spawn")
    held, release = spawn.Event(), spawn.Event()
    process = spawn.Process(target=hold_until, args=(tmp_path / "thing", held, release))
    process.start()
    assert held.wait(30)
    yield process, release
    process.kill()
    process.join()


def test_the_second_process_is_told_who_has_it(tmp_path, other_process):
    process, _ = other_process
    with (
        pytest.raises(ResourceError, match=f"process {process.pid} on {socket.gethostname()}"),
        hold(tmp_path / "thing"),
    ):
        pass


def test_a_killed_process_leaves_no_lock(tmp_path, other_process):
    process, _ = other_process
    process.kill()
    process.join()
    with hold(tmp_path / "thing"):
        pass


def test_waiting_ends_when_the_other_is_done(tmp_path, other_process):
    process, release = other_process
    release.set()
    with hold(tmp_path / "thing", wait=True):
        process.join(30)
    assert process.exitcode == 0


def test_who_waits_is_told_for_whom(tmp_path, other_process):
    process, release = other_process
    told = []

    def tell(line):
        told.append(line)
        release.set()

    with hold(tmp_path / "thing", wait=True, tell=tell):
        pass
    (line,) = told
    assert line.startswith(f"waiting: process {process.pid} on")


def test_locks_of_different_things_do_not_meet(tmp_path):
    with hold(tmp_path / "a"), hold(tmp_path / "b"):
        pass


def test_it_can_be_held_again_and_names_no_holder_when_free(tmp_path):
    for _ in range(2):
        with hold(tmp_path / "a"):
            assert (tmp_path / ".a.holder").is_file()
    assert not (tmp_path / ".a.holder").exists()


def test_a_folder_that_cannot_be_is_said(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot be written"), hold(tmp_path / "file" / "a"):
        pass
