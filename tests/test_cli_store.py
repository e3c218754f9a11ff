"""`berg encode --store` and `berg store`: arguments, what is said, killed and gone on, workers."""

import os
import random
import signal
import subprocess
import time

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from berg.cli import main
from berg.stores import Store, running
from berg.stores.plan import RunPlan
from berg.stores.running import StoreRun
from conftest import MODEL_ID
from run_fixture import add_second_subject, command, environment, share_network, write_images
from store_fixture import hash_tree

N_IMAGES = 24


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def here(tmp_path, monkeypatch, tiny, tiny_metadata):
    """A working directory with photographs, beside a berg_dir of two subjects."""
    add_second_subject(tiny, tiny_metadata)
    share_network(monkeypatch)
    folder = tmp_path / "here"
    write_images(folder / "photos", N_IMAGES)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("BERG_DIR", str(tiny.berg_dir))
    return folder


@pytest.fixture
def asked(monkeypatch):
    """What a run was asked for, in place of the run."""
    calls = []

    def encode_to_store(sources, path, subjects, **options):
        calls.append(([*map(str, sources)], str(path), tuple(subjects), options))
        return StoreRun(path, RunPlan(5, 3, 0, 1, 1, 1, 1, 0))

    monkeypatch.setattr(running, "encode_to_store", encode_to_store)
    return calls


@pytest.mark.parametrize(
    ("arguments", "sources", "subjects"),
    [
        (["a", "b.npy", "--subjects", "1-8"], ["a", "b.npy"], tuple(range(1, 9))),
        (["a", "--subject", "1", "2", "5-6"], ["a"], (1, 2, 5, 6)),
        (["--subject", "1", "cat.jpg"], ["cat.jpg"], (1,)),
        (["a", "--subject", "1", "cat.jpg"], ["a", "cat.jpg"], (1,)),
        (["5", "--subject", "1"], ["5"], (1,)),
        (["--subject", "1", "./5"], ["5"], (1,)),
        (["--subject", "1", "--", "5"], ["5"], (1,)),
        (["a", "--subject", "1", "-", "3"], ["a"], (1, 2, 3)),
        (["a", "--subject", "1", "-3", "5,", "7", "8"], ["a"], (1, 2, 3, 5, 7, 8)),
        (["--subject=1,", "2", "a"], ["a"], (1, 2)),
        (["--subject", "1 - 3, 5", "a"], ["a"], (1, 2, 3, 5)),
    ],
)
def test_sources_and_subjects_are_told_apart(asked, arguments, sources, subjects):
    run("encode", "--store", "s.zarr", *arguments)
    found, path, numbers, options = asked[0]
    assert (found, path, numbers) == (sources, "s.zarr", subjects)
    assert (options["dtype"], options["rois"], options["chunk_images"]) == ("scores", (), None)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--roi", "V1v", "V1d", "photos"],
        ["--roi", "V1v,V1d", "photos"],
        ["--roi=V1v,", "V1d", "photos"],
        ["photos", "--roi", "V1v", "--roi", "V1d"],
    ],
)
def test_regions_and_sources_are_told_apart(asked, arguments):
    run("encode", "--store", "s.zarr", "--subject", "1", *arguments)
    assert asked[0][0] == ["photos"]
    assert asked[0][3]["rois"] == ("V1v", "V1d")


def test_a_source_that_is_there_is_no_region(asked, here):
    (here / "V1d").mkdir()
    run("encode", "--store", "s.zarr", "--subject", "1", "--roi", "V1v", "V1d", "FFA-9")
    assert asked[0][0] == ["V1d", "FFA-9"]


def test_every_option_arrives(asked):
    run(
        *("encode", "a", "--subjects", "1", "--store", "s.zarr", "--model", "m", "--roi", "V1v"),
        *("--roi", "V1d", "--dtype", "float16", "--chunk", "7", "--workers", "3", "--device"),
        *(
            "cpu",
            "--precision",
            "bfloat16",
            "--skip-bad",
            "--quiet",
            "--berg-dir",
            "b",
            "--dry-run",
        ),
    )
    options = asked[0][3]
    assert str(options.pop("berg_dir")) == "b"
    assert callable(options.pop("tell"))
    assert options == {
        **{"model_id": "m", "rois": ("V1v", "V1d"), "dtype": "float16", "chunk_images": 7},
        **{"n_workers": 3, "scheduler": None, "device": "cpu", "precision": "bfloat16"},
        **{"skip_bad": True, "show_progress": False, "dry_run": True},
    }
    run("encode", "a", "--subjects", "1", "--store", "s.zarr", "--scheduler", "tcp://here:1")
    assert asked[1][3]["scheduler"] == "tcp://here:1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--subject", "1", "2"], "several subjects (1, 2): only with --store DIR.zarr"),
        (["--subject", "1", "--dtype", "float16"], "--dtype: only with --store"),
        (["--subject", "1", "--chunk", "5"], "--chunk: only with --store"),
        (["--subject", "1", "--workers", "2"], "--workers: only with --store"),
        (["--subject", "1", "--scheduler", "a:1"], "--scheduler: only with --store"),
        (["--subject", "1", "--dry-run"], "--dry-run: only with --store"),
        (["--subject", "1", "--store", "s", "--out", "r.npz"], "--store and --out exclude"),
        (
            ["--subject", "1", "--store", "s", "--workers", "2", "--scheduler", "a:1"],
            "--workers and --scheduler exclude each other",
        ),
        (["--subject", "1", "--store", "s", "--dtype", "float64"], "'float64' is not one of"),
        (["--subject", "1", "--store", "s", "--chunk", "0"], "0 is not in the range"),
        (["--subject", "1", "--store", "s", "--workers", "0"], "0 is not in the range"),
    ],
)
def test_options_that_do_not_go_together_are_said(asked, arguments, message):
    result = run("encode", "photos", *arguments, code=2)
    assert message in result.stderr
    assert not asked


def test_a_run_and_its_store_are_said(here, rng):
    (here / "photos" / "07.png").write_text("no image")
    Image.fromarray(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8)).save("photos/08.png")
    order = ("encode", "photos", "--subjects", "1-2", "--store", "s.zarr", "--chunk", 10)
    plan = run(*order, "--dry-run")
    assert "24 images in 3 chunks; " in plan.stderr
    assert plan.stdout == ""
    assert not (here / "s.zarr").exists()

    failed = run(*order, code=1)
    assert "Error: photos/07.png cannot be read as an image" in failed.stderr
    assert "stopped: 0 of 3 chunks are kept" in failed.stderr
    result = run(*order, "--skip-bad")
    assert "24/24" in result.stderr
    assert result.stdout.splitlines() == [
        "1 of 24 images: not square, cut to the central square",
        "1 of 24 images: smaller than 224×224 pixels, enlarged",
        "s.zarr: images 24, subjects 1, 2, scores",
    ]
    assert result.stderr.splitlines()[-3:] == [
        "to use it: berg.open_store('s.zarr', subject=1)",
        "marked, unreadable: 1 of 24 images",
        "- photos/07.png cannot be read as an image",
    ]
    again = run(*order, "--quiet")
    assert "is complete already" in again.stderr
    assert "/24" not in again.stderr

    described = run("store", "s.zarr").stdout
    for line in ("images      24 of 24 done", "chunks      3 of 3 done", "subjects    1, 2"):
        assert line in described.splitlines()
    assert described.endswith("unreadable  1 image\n- photos/07.png\n")
    assert f"model       {MODEL_ID}" in described


def test_what_is_no_store_is_said(here):
    assert "there is no store" in run("store", "absent.zarr", code=1).stderr
    assert "is not a store" in run("store", "photos", code=1).stderr


def test_many_unreadable_images_are_not_all_listed(here):
    for i in range(22):
        (here / "photos" / f"{i:02}.png").write_text("no image")
    result = run("encode", "photos", "--subject", 1, "--store", "s.zarr", "--skip-bad", "--quiet")
    lines = result.stderr.splitlines()
    assert "marked, unreadable: 22 of 24 images" in lines
    assert sum(line.startswith("- ") for line in lines) == 20
    assert lines[-1] == "`berg store s.zarr` lists all"
    assert run("store", "s.zarr").stdout.count("\n- ") == 22


# --- in processes of their own


@pytest.fixture
def program(here, tiny):
    """Start `berg encode` into a store, 12 chunks of 2 images, in a process of its own."""

    def start(store, *options):
        return subprocess.Popen(
            command(
                here / "program.py",
                *("encode", "photos", "--subjects", "1-2", "--store", store, "--chunk", 2),
                *("--device", "cpu", "--quiet", *options),
            ),
            cwd=here,
            env=environment(tiny.berg_dir),
            start_new_session=True,  # a group of its own, as from a terminal
            # What a shell starts in the background is deaf to Ctrl-C, these tests perhaps.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def finish(process):
    output, error = process.communicate(timeout=120)
    assert process.returncode == 0, error
    assert "Traceback" not in error
    return output, error


def done_chunks(store):
    """Return the files of the chunks that are done, with what shows that they are the same."""
    return {
        path: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in (store / "status" / "c").glob("[0-9]*")
    }


def test_killed_at_any_moment_it_ends_with_the_same_bytes(here, program):
    order = ("encode", "photos", "--subjects", "1-2", "--chunk", 2)
    run(*order, "--store", "whole.zarr")
    store = here / "s.zarr"
    moments = random.Random(4)
    for wanted in (1, 6):
        process = program("s.zarr")
        while process.poll() is None and len(done_chunks(store)) < wanted:
            time.sleep(0.001)
        if wanted == 1:  # a second process is told who is at work
            refused = run(*order, "--store", "s.zarr", code=1)
            assert f"a lock held by process {process.pid} on " in refused.stderr
        time.sleep(moments.uniform(0, 0.03))
        process.send_signal(signal.SIGKILL)
        error = process.communicate()[1]
        assert process.returncode == -signal.SIGKILL, error
        before = done_chunks(store)
        assert wanted <= len(before) < N_IMAGES // 2
        # What was written beyond the chunks that are done is of one chunk: no more is redone.
        scores = (store / "subject-01" / "scores" / "c").glob("[0-9]*")
        assert len({path.name for path in scores} - {path.name for path in before}) <= 1
    _, error = finish(program("s.zarr"))
    assert f" ({len(before)} done already)" in error
    assert before.items() <= done_chunks(store).items()
    assert hash_tree(store) == hash_tree(here / "whole.zarr")


def test_workers_give_the_same_bytes_and_one_that_is_killed_is_survived(here, program):
    run(*("encode", "photos", "--subjects", "1-2", "--store", "whole.zarr", "--chunk", 2))
    process = program("s.zarr", "--workers", 2)
    store = here / "s.zarr"
    while process.poll() is None and len(done_chunks(store)) < 2:
        time.sleep(0.001)
    workers = workers_of(process.pid)
    assert len(workers) == 2
    os.kill(workers[0], signal.SIGKILL)
    output, _ = finish(process)
    assert output.splitlines()[-1] == "s.zarr: images 24, subjects 1, 2, scores"
    assert hash_tree(store) == hash_tree(here / "whole.zarr")


def test_interrupted_with_its_workers_it_says_so_and_no_more(here, program):
    store = here / "s.zarr"
    for is_time, kept in (
        (workers_of, f"nothing is kept, there is no {store}"),  # while they start
        (lambda pid: done_chunks(store), "of 12 chunks are kept"),
    ):
        process = program("s.zarr", "--workers", 1)
        while process.poll() is None and not is_time(process.pid):
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # to all processes, as a terminal does
        error = process.communicate(timeout=120)[1]
        assert process.returncode == 1, error
        _, after_plan = error.split("24 images in 12 chunks", 1)
        _, stopped, *others = [line for line in after_plan.splitlines() if line]
        assert stopped.startswith("stopped: ")
        assert kept in stopped
        assert others == ["Aborted!"]
        assert not (here / ".s.zarr.holder").exists()


def test_ended_by_slurm_it_says_what_is_kept(here, monkeypatch):
    def end(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(Store, "write_scores", end)
    # As in a program of its own, whatever a library has made of it here.
    interrupted = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        result = run("encode", "photos", "--subject", 1, "--store", "s.zarr", "--quiet", code=1)
    finally:
        signal.signal(signal.SIGINT, interrupted)
    assert "stopped: 0 of 1 chunks are kept" in result.stderr
    assert not (here / ".s.zarr.holder").exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_names_that_are_no_line_are_escaped(here):
    (here / "photos" / "two\nlines.png").write_text("no image")
    result = run(
        *("encode", "photos", "--subject", 1, "--store", "s.zarr", "--skip-bad", "--quiet")
    )
    assert result.stderr.endswith("- photos/two\\nlines.png cannot be read as an image\n")
    assert run("store", "s.zarr").stdout.endswith("1 image\n- photos/two\\nlines.png\n")


def workers_of(pid):
    """Return the processes that compute: those that a process's children, the nannies', run."""
    import psutil

    return [
        child.pid
        for child in psutil.Process(pid).children(recursive=True)
        if "spawn_main" in " ".join(child.cmdline())
    ]


def test_a_scheduler_that_is_not_there_is_said(here):
    result = run(
        *("encode", "photos", "--subject", 1, "--store", "s.zarr", "--scheduler", "nowhere"),
        code=1,
    )
    assert "this is not the address of a scheduler" in result.stderr
    assert not (here / "s.zarr").exists()
