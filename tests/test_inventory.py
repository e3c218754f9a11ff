"""What is on the disk, and what may be deleted: everything else stays."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from berg import BERG
from berg.cli import main
from berg.downloads import find_interrupted
from berg.errors import ResourceError
from berg.inventory import Freeable, free, n_bytes_of, take_inventory
from berg.locks import hold
from conftest import MODEL_ID, tiny_card

HOURS = 3600
NEAR_MISSES = [
    "alexnet_untrained-my_finetune.safetensors",
    "alexnet_untrained-0123456789abc.safetensors",
    "alexnet_untrained-0123456789ab.safetensors.bak",
    "simulated-notes.txt",
    "simulated-responses-of-my-paper",
]


@pytest.fixture
def own_cache(tmp_path, monkeypatch) -> Path:
    """A cache with a network, a simulated subject and a file that is not berg's."""
    cache = tmp_path / "own_cache"
    cache.mkdir()
    monkeypatch.setenv("BERG_CACHE_DIR", str(cache))
    (cache / "alexnet_untrained-0123456789ab.safetensors").write_bytes(b"n" * 1000)
    (cache / "simulated-1" / "encoding_models").mkdir(parents=True)
    (cache / "simulated-1" / "encoding_models" / "w.npy").write_bytes(b"s" * 200)
    (cache / "thesis.docx").write_bytes(b"years of work")
    for name in NEAR_MISSES[:-1]:
        (cache / name).write_bytes(b"a user's own")
    (cache / NEAR_MISSES[-1]).mkdir()
    (cache / "simulated-3").write_bytes(b"no folder")
    return cache


def lie_idle(path: Path) -> None:
    """Set the time of the last change so far back that nobody can be at work."""
    os.utime(path, (1, 1))


def run(*arguments, code=0, **options):
    result = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False, **options)
    assert result.exit_code == code, result.output
    return result


def test_a_subject_is_there_in_its_forms(tiny):
    files = tiny_card().files(tiny.berg_dir)
    files.weights_safetensors(1).write_bytes(b"x" * 77)
    files.metadata(3).write_bytes(b"damaged")
    files.accuracy_plots.mkdir()
    (files.accuracy_plots / "nsdcore.png").write_bytes(b"x" * 5)
    (files.accuracy_plots / ".nsdcore.png.lock").touch()
    for name, size in (("lh", 10), ("rh", 20)):
        path = files.predictions(1, name, "test")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    found = take_inventory(tiny.berg_dir)
    first, third = found.subjects
    assert first.bytes == {
        "npy": tiny.weights_npy.stat().st_size,
        "safetensors": 77,
        "metadata": tiny.metadata_npy.stat().st_size,
        "predictions": 30,
    }
    assert (first.subject, first.simulated) == (1, False)
    assert (third.subject, third.simulated, third.bytes) == (3, None, {"metadata": 7})
    assert found.plots == {MODEL_ID: (1, 5)}


def test_a_simulated_subject_is_called_so(tiny, tiny_metadata):
    from berg.metadata import save_metadata

    save_metadata(tiny.metadata_npy, tiny_metadata | {"provenance": {"simulated": True}})
    (only,) = take_inventory(tiny.berg_dir).subjects
    assert only.simulated
    assert run("status", "--berg-dir", tiny.berg_dir).output.count("SIMULATED") == 1


def test_an_absent_berg_dir_has_nothing_and_says_how_to_begin(tmp_path, own_cache):
    assert take_inventory(tmp_path / "none").subjects == []
    output = run("status", "--berg-dir", tmp_path / "none").output
    assert "does not exist" in output
    assert "berg download" in output
    assert not (tmp_path / "none").exists()


def test_status_as_json_has_bytes(tiny):
    told = json.loads(run("status", "--json", "--berg-dir", tiny.berg_dir).output)
    assert told["berg_dir"] == str(tiny.berg_dir)
    assert told["subjects"][0]["bytes"]["npy"] == tiny.weights_npy.stat().st_size


def test_cleaning_frees_the_cache_and_nothing_else(tiny, own_cache):
    training = tiny_card().files(tiny.berg_dir).prepared / "subject-01" / "features"
    training.mkdir(parents=True)
    (training / "features.npy").write_bytes(b"f" * 300)
    kept = {path: path.read_bytes() for path in (tiny.weights_npy, tiny.metadata_npy)}
    told = run("clean", "--dry-run", "--berg-dir", tiny.berg_dir).output
    assert "1.2 kB" in told
    assert (own_cache / "simulated-1").is_dir()  # so far it was only said
    assert run("clean", "--yes", "--berg-dir", tiny.berg_dir).output.endswith("freed 1.2 kB\n")
    left = {path.name for path in own_cache.iterdir() if path.suffix != ".lock"}
    assert left == {"thesis.docx", "simulated-3", *NEAR_MISSES}
    assert {path: path.read_bytes() for path in kept} == kept
    assert (training / "features.npy").is_file()
    assert run("clean", "--training", "--yes", "--berg-dir", tiny.berg_dir).output.endswith(
        "freed 300 B\n"
    )
    assert not training.exists()
    assert "nothing to free" in run("clean", "--berg-dir", tiny.berg_dir).output


def test_cleaning_asks(tiny, own_cache, monkeypatch):
    result = run("clean", "--berg-dir", tiny.berg_dir, code=2)
    assert "--yes" in result.stderr
    monkeypatch.setattr("berg.cli.group.can_ask", lambda: True)
    run("clean", "--berg-dir", tiny.berg_dir, input="n\n", code=1)
    assert (own_cache / "simulated-1").is_dir()
    run("clean", "--berg-dir", tiny.berg_dir, input="y\n")
    assert not (own_cache / "simulated-1").exists()


def test_what_a_process_uses_stays(tiny, own_cache):
    prepared = tiny_card().files(tiny.berg_dir).prepared
    for name in ("subject-02", "shared_features-0123"):
        (prepared / name).mkdir(parents=True)
        (prepared / name / "x.npy").write_bytes(b"x")
    with hold(prepared / "subject-02"):  # as `berg train` does, which reads the shared ones too
        result = run("clean", "--training", "--yes", "--berg-dir", tiny.berg_dir)
    assert result.stderr.count("kept, a process is at work on it") == 2
    assert (prepared / "subject-02" / "x.npy").is_file()
    assert (prepared / "shared_features-0123" / "x.npy").is_file()
    assert not (own_cache / "simulated-1").exists()


def test_what_killed_processes_left_is_found_once_it_lies_idle(tiny, own_cache):
    weights = tiny.weights_npy.parent
    left = [
        weights / f".{tiny.weights_npy.name}.0123456789abcdef.part",
        tiny.berg_dir / "model_training_datasets" / "a" / ".unfinished-features" / "f.npy",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"l" * 40)

    def found():
        each = take_inventory(tiny.berg_dir).caches
        return {one.paths[0] for one in each if "killed" in one.what}

    assert found() == set()  # someone may be writing
    old = os.stat(weights).st_mtime - 2 * HOURS
    for path in (*left, left[1].parent):
        os.utime(path, (old, old))
    assert found() == {left[0], left[1].parent}


@pytest.mark.parametrize("name", ["subject-01/.unfinished-components", ".unfinished-shared"])
def test_a_stage_that_is_being_made_stays_however_long_nothing_is_written(tiny, name):
    folder = tiny_card().files(tiny.berg_dir).prepared / name
    folder.mkdir(parents=True)
    lie_idle(folder)
    (left,) = (each for each in take_inventory(tiny.berg_dir).caches if "killed" in each.what)
    # Training holds the subject's folder, or the one that subjects share.
    user = folder.parent if "/" in name else folder.with_name("shared")
    with hold(user):
        assert not free(left)
    assert folder.exists()
    (folder / "x.npy").write_bytes(b"x")  # someone went on meanwhile, and was stopped again
    assert not free(left)
    lie_idle(folder / "x.npy")
    lie_idle(folder)
    assert free(left)
    assert not folder.exists()


def test_nothing_is_counted_twice(tiny, own_cache):
    prepared = tiny_card().files(tiny.berg_dir).prepared
    simulating = own_cache / "simulated-1" / "encoding_models" / ".simulating-x"
    unfinished = prepared / "subject-01" / ".unfinished-features"
    for folder in (simulating, unfinished):
        folder.mkdir(parents=True)
        (folder / "f.npy").write_bytes(b"f" * 30)
        lie_idle(folder / "f.npy")
        lie_idle(folder)
    (prepared / "subject-01" / "measured.npy").write_bytes(b"m" * 7)
    found = take_inventory(tiny.berg_dir)
    sizes = {each.paths[0].name: each.bytes for each in (*found.caches, *found.training)}
    assert sizes.pop("alexnet_untrained-0123456789ab.safetensors") == 1000
    assert sizes == {"simulated-1": 230, ".unfinished-features": 30, "subject-01": 7}


def refuse(monkeypatch, folder: Path) -> None:
    """Forbid to look into a folder; root, as whom tests may run, is refused nothing."""

    scandir = os.scandir

    def refusing(real):
        def look(path, *arguments, **options):
            # The folder itself may be looked at, from above. Numbers are of files that are open.
            if not isinstance(path, int) and (
                folder in Path(path).parents or (real is scandir and Path(path) == folder)
            ):
                raise PermissionError(13, "Permission denied", str(path))
            return real(path, *arguments, **options)

        return look

    for name in ("stat", "lstat", "scandir", "open"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))


@pytest.mark.parametrize("command", ["status", "clean", "verify"])
@pytest.mark.parametrize("depth", ["weights", "berg_dir"])
def test_folders_that_may_not_be_read_are_said(tiny, own_cache, monkeypatch, command, depth):
    folder = tiny.weights_npy.parent if depth == "weights" else tiny.berg_dir
    refuse(monkeypatch, folder)
    options = ["--yes"] * (command == "clean")
    result = run(command, *options, "--berg-dir", tiny.berg_dir, code=int(command == "verify"))
    assert str(folder) in result.stderr
    assert "read" in result.stderr
    assert "no model is there" not in result.output
    with pytest.raises(ResourceError, match=f"{tiny.weights_npy} cannot be read"):
        BERG(tiny.berg_dir).check_weights(MODEL_ID, 1)


def test_links_are_deleted_and_not_followed(tmp_path):
    real = tmp_path / "real"
    real.mkdir()
    (real / "w.npy").write_bytes(b"w" * 500)
    link = tmp_path / "link"
    link.symlink_to(real)
    assert n_bytes_of(link) < 500 == n_bytes_of(real)
    assert free(Freeable("a link", (link,), 0))
    assert not link.is_symlink()
    assert (real / "w.npy").is_file()


def test_no_permission_is_said(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("shutil.rmtree", refuse)  # root, as whom tests may run, is refused nothing
    with pytest.raises(ResourceError, match=r"cannot be deleted\n.*Permission denied"):
        free(Freeable("something", (tmp_path,), 1))


def test_sizes_of_folders_are_the_sum_of_their_files(tmp_path):
    rng = np.random.default_rng(0)
    sizes = rng.integers(0, 1000, 5)
    for number, size in enumerate(sizes):
        path = tmp_path / "a" / ("b" * number) / f"{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
    assert n_bytes_of(tmp_path) == sizes.sum()
    assert n_bytes_of(tmp_path / "none") == 0


def test_a_download_that_is_not_finished_can_be_freed_but_not_while_it_runs(tiny):
    target = tiny_card().files(tiny.berg_dir).weights_npy(2)
    part, journal = (target.with_name(f".{target.name}.{end}") for end in ("part", "part.journal"))
    part.write_bytes(b"x" * 60)
    journal.write_text("damaged")
    (found,) = (each for each in take_inventory(tiny.berg_dir).caches if "download" in each.what)
    assert found.bytes == 60 + len("damaged")
    with hold(target):
        assert not free(found)
        assert part.exists()
    with hold(target.parent):  # as of a picture of accuracy
        assert not free(found)
    assert free(found)
    assert not part.exists()
    assert not journal.exists()


def test_a_part_without_its_journal_is_found_and_its_holes_are_not_counted(tiny):
    target = tiny_card().files(tiny.berg_dir).weights_npy(2)
    part = target.with_name(f".{target.name}.part")
    with part.open("wb") as file:
        file.truncate(50_000_000)
        file.write(b"x" * 100)
    other = target.with_name(f".{target.name}.0123456789abcdef.part")  # of `berg.atomic`
    other.write_bytes(b"x")
    (found,) = (each for each in take_inventory(tiny.berg_dir).caches if "download" in each.what)
    assert found.paths[0] == part
    assert found.bytes < 1_000_000
    (interrupted,) = find_interrupted(tiny.berg_dir)
    assert (interrupted.target, interrupted.n_bytes) == (target, 0)
