"""How the commands that build models read their arguments, and what they print."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import berg.training
from berg.cli import main
from berg.metadata import save_metadata
from berg.scoring import Scores
from berg.training import TestedSubject


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def asked(monkeypatch):
    """What training was asked for, in place of training."""
    calls = []

    def train(nsd_dir, subjects, **options):
        calls.append((nsd_dir, tuple(subjects), options))
        return []

    monkeypatch.setattr(berg.training, "train", train)
    return calls


@pytest.mark.parametrize(
    ("arguments", "subjects"),
    [
        (["--subject", "1", "2"], (1, 2)),
        (["--subject=1", "2"], (1, 2)),
        (["--subject=1,2", "5-8"], (1, 2, 5, 6, 7, 8)),
        (["--subjects", "3-3", "1", "3"], (3, 1)),
        (["--subject", "2", "--subject=1"], (2, 1)),
        (["--subject", "01"], (1,)),
    ],
)
def test_subjects_may_be_written_in_several_ways(asked, arguments, subjects):
    run("train", *arguments, "--nsd-dir", "nsd")
    run("train", "--nsd-dir", "nsd", *arguments)
    assert [call[1] for call in asked] == [subjects, subjects]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("5-2", "'5-2' falls: write the smaller subject first"),
        ("1-80000000000", "'1-80000000000' is out of range: subjects are 1 to 8"),
        ("1,100", "'100' is out of range: subjects are 1 to 8"),
        ("one", "'one' is not a subject, nor several like 1-8 or 1,2,5"),
        ("", "'' is not a subject"),
        ("-1", "'-1' is not a subject"),
    ],
)
def test_what_are_no_subjects_is_said(asked, value, message):
    assert message in run("train", f"--subject={value}", "--nsd-dir", "nsd", code=2).stderr
    assert not asked


def test_options_reach_training(asked):
    run("train", "--subject", 1, "--nsd-dir", "nsd", "--sessions", 3, "--ridge", "--overwrite")
    ((nsd_dir, _, options),) = asked
    assert nsd_dir == Path("nsd")
    assert options["n_sessions"] == 3
    assert options["ridge"]
    assert options["overwrite"]
    assert options["show_progress"]


@pytest.mark.parametrize("command", [["train", "--nsd-dir=nsd"], ["test", "--nsd-dir=nsd"]])
def test_no_sessions_are_refused(asked, command):
    result = run(*command, "--subject", 1, "--sessions", 0, code=2)
    assert "0 is not in the range x>=1" in result.stderr
    simulated = run("nsd", "simulate", "nowhere", "--subject", 1, "--sessions", 0, code=2)
    assert "0 is not in the range x>=1" in simulated.stderr


def test_nsd_dir_may_be_in_the_environment(asked, monkeypatch):
    assert "Missing option '--nsd-dir'" in run("train", "--subject", 1, code=2).stderr
    monkeypatch.setenv("NSD_DIR", "from_environment")
    run("train", "--subject", 1)
    assert asked[0][0] == Path("from_environment")


def test_overwriting_says_what_would_be_replaced():
    train, test = (" ".join(run(name, "--help").stdout.split()) for name in ("train", "test"))
    assert "--overwrite Replace a model that is there already" in train
    assert "--overwrite Replace the accuracy in metadata that came with a downloaded model." in test


def test_a_test_ends_with_the_accuracy_of_each_region(tmp_path, tiny_metadata, monkeypatch):
    path = tmp_path / "metadata.npy"
    maps = tiny_metadata["encoding_models"]
    accuracy = {}
    for hemi in ("lh", "rh"):
        for dataset, explained in (("nsdcore", 25.0), ("nsdsynthetic", np.nan)):
            ones = np.ones_like(maps[f"{hemi}_r2_{dataset}"])
            maps = maps | {
                f"{hemi}_noise_ceiling_{dataset}": 0.1 * ones,
                f"{hemi}_explained_variance_{dataset}": explained * ones,
            }
            accuracy[hemi, dataset] = Scores(ones, ones, 0.1 * ones, explained * ones)
    save_metadata(path, tiny_metadata | {"encoding_models": maps})
    tested = TestedSubject(1, path, accuracy, {"features": 1.5})
    monkeypatch.setattr(berg.training, "evaluate", lambda *a, **k: [tested])

    result = run("test", "--subject", 1, "--nsd-dir", "nsd")
    assert "features" in result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert ["V1v", "5", "25.0", "%", "0", "-"] in lines
    assert not any(line[:1] == ["mTL-bodies"] for line in lines)  # which the subject lacks
    assert (
        "subject 1, nsdcore: median explained variance 25.0 % of the noise ceiling, "
        "where that is at least 0.1" in result.stdout
    )
    assert result.stdout.splitlines()[-1] == str(path)
