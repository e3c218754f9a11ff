"""Training that is stopped at any moment, and started again."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from berg.errors import ResourceError
from berg.simulation.nsd_tree import simulate_nsd
from berg.training import building, publish, train
from conftest import REAL_CARD

# The steps of `train`, in order: stopped after each of them, it must end the same.
STEPS = (
    *((building, name) for name in ("make_features", "fit_components", "project", "save_fitted")),
    *((building, name) for name in ("measure", "measure_synthetic", "regression_from_products")),
    *((building, name) for name in ("save_npy", "save_metadata", "keep_seconds")),
    *((publish, "put_in_place"), (building, "publish")),
)
SCRATCH = ("features", "components", "trials_lh", "trials_rh", "model")


class Stopped(BaseException):
    """What a test raises where a process might be killed."""


pytestmark = pytest.mark.filterwarnings("ignore:subject . has only .. test images")


@pytest.fixture(scope="module")
def nsd_dir(tmp_path_factory, cache_dir) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERG_CACHE_DIR", str(cache_dir))
        return simulate_nsd(
            tmp_path_factory.mktemp("nsd") / "nsd",
            n_sessions=2,
            n_train=260,
            n_test=30,
            n_val=5,
            level=3,
            show_progress=False,
        )


def outputs(berg_dir: Path) -> dict[str, str]:
    """SHA-256 of every file that a user is given."""
    return {
        str(path.relative_to(berg_dir)): hashlib.sha256(path.read_bytes()).hexdigest()
        for part in ("encoding_models", "results")
        for path in sorted((berg_dir / part).rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def whole(nsd_dir, tmp_path_factory, cache_dir) -> dict[str, str]:
    """The outputs of a training that nothing stopped."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERG_CACHE_DIR", str(cache_dir))
        berg_dir = tmp_path_factory.mktemp("whole")
        train(nsd_dir, [1], berg_dir=berg_dir, device="cpu", show_progress=False)
    made = outputs(berg_dir)
    assert len(made) == 1 + 1 + 4
    return made


def test_stopped_in_every_step_it_ends_with_the_same_bytes(nsd_dir, whole, tmp_path, monkeypatch):
    done: list[tuple[object, str]] = []

    def go_on():
        train(nsd_dir, [1], berg_dir=tmp_path, device="cpu", show_progress=False)

    for module, step in STEPS:
        original = getattr(module, step)

        def stop(*args, original=original, step=(module, step), **kwargs):
            original(*args, **kwargs)  # the work is done, and then it never comes to be known
            done.append(step)
            raise Stopped

        with monkeypatch.context() as patch:
            patch.setattr(module, step, stop)
            with pytest.raises(Stopped):
                go_on()
        assert set(outputs(tmp_path).items()) <= set(whole.items())  # whole files, or none
    go_on()
    # Once the files are in place there is nothing more to do than to give scratch back.
    assert done == list(STEPS)
    assert outputs(tmp_path) == whole
    folder = REAL_CARD.files(tmp_path).prepared / "subject-01"
    assert not [name for name in SCRATCH if (folder / name).exists()]


def test_finished_stages_are_not_made_again(nsd_dir, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(building, "save_npy", _stop)
        with pytest.raises(Stopped):
            train(nsd_dir, [1], berg_dir=tmp_path, device="cpu", show_progress=False)
    for module, step in STEPS[:5]:
        monkeypatch.setattr(module, step, _stop)
    train(nsd_dir, [1], berg_dir=tmp_path, device="cpu", show_progress=False)


def test_stages_of_other_betas_are_made_again(nsd_dir, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(building, "save_npy", _stop)
        with pytest.raises(Stopped):
            train(nsd_dir, [1], berg_dir=tmp_path, device="cpu", show_progress=False)
    (betas,) = nsd_dir.rglob("lh.betas_session02.mgh")
    before, times = betas.read_bytes(), betas.stat()
    try:
        values = np.frombuffer(before, ">f4", offset=284).copy()
        values[:1000] *= 1.5
        betas.write_bytes(before[:284] + values.tobytes())
        monkeypatch.setattr(building, "make_features", _stop)  # but features are not
        train(nsd_dir, [1], berg_dir=tmp_path, device="cpu", show_progress=False)
    finally:
        betas.write_bytes(before)
        os.utime(betas, ns=(times.st_atime_ns, times.st_mtime_ns))
    changed = {name for name, digest in outputs(tmp_path).items() if whole[name] != digest}
    assert {Path(name).name[:2] for name in changed} == {"lh", "we", "me"}


def test_killed_it_goes_on_and_ends_with_the_same_bytes(nsd_dir, whole, tmp_path):
    command = [
        *(sys.executable, "-m", "berg.cli", "train", "--subject", "1", "--device", "cpu"),
        *("--nsd-dir", str(nsd_dir), "--berg-dir", str(tmp_path), "--quiet"),
    ]
    moments = ("features", "components", "trials_lh", "model")
    # Each stage's folder by its name: a search through all of them meets some that are just gone.
    stages = REAL_CARD.files(tmp_path).prepared
    for moment in moments:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while process.poll() is None and not list(stages.glob(f"*/.unfinished-{moment}")):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        error = process.communicate()[1].decode()
        assert process.returncode in (-signal.SIGKILL, 0), error
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert outputs(tmp_path) == whole


def test_a_second_process_is_told(nsd_dir, tmp_path):
    folder = REAL_CARD.files(tmp_path).prepared / "subject-01"
    folder.parent.mkdir(parents=True)
    with (
        FileLock(folder.with_name(".subject-01.lock")),
        pytest.raises(ResourceError, match="another process is at work"),
    ):
        train(nsd_dir, [1], berg_dir=tmp_path, device="cpu", show_progress=False)


def _stop(*args, **kwargs):
    raise Stopped


def test_a_disk_that_fills_up_is_said_and_leaves_no_model(nsd_dir, tmp_path):
    """NumPy's own error of a full disk has no number: here writing really ends."""
    command = [
        *(sys.executable, "-m", "berg.cli", "train", "--subject", "1", "--device", "cpu"),
        *("--nsd-dir", str(nsd_dir), "--berg-dir", str(tmp_path), "--quiet"),
    ]

    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (150 * 10**6, 150 * 10**6))

    done = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=limit_files
    )
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert outputs(tmp_path) == {}
    assert not list(tmp_path.rglob(".unfinished*"))
