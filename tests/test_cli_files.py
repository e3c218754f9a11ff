"""`berg download` and `berg verify` at the command line."""

from __future__ import annotations

import io

import pytest
from click.testing import CliRunner

from berg.cli import main
from conftest import MODEL_ID, REAL_CARD
from downloads_fixture import OBJECTS, OF_SUBJECT_1, berg_dir, found, proxy, s3, whole
from s3_fixture import METADATA, PLOTS, WEIGHTS

__all__ = ["berg_dir", "proxy", "s3"]  # fixtures

pytestmark = pytest.mark.enable_socket  # of this machine alone


class Terminal(io.BytesIO):
    """Somebody who can be asked."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def run(berg_dir, monkeypatch):
    monkeypatch.setenv("BERG_DIR", str(berg_dir))

    def invoke(*arguments, code=0, answer=None):
        typed = None if answer is None else Terminal(answer)
        result = CliRunner().invoke(
            main, [*map(str, arguments)], catch_exceptions=False, input=typed
        )
        assert result.exit_code == code, result.output
        return result

    return invoke


def test_the_plan_is_shown_and_agreed_to(s3, run, berg_dir, monkeypatch):
    asked = []
    monkeypatch.setattr("berg.cli.group.can_ask", lambda: True)
    monkeypatch.setattr("click.confirm", lambda text, abort: asked.append(text))
    result = run("download", "--subject", 1, "--quiet")
    assert asked == ["Agree, and fetch?"]
    assert "weights_subject-01.npy" in result.stdout
    assert "1.2 MB  to fetch" in result.stdout
    assert REAL_CARD.facts["terms"] in result.stdout
    assert "All 4 files are there" in result.stdout
    assert found(berg_dir) == whole(OF_SUBJECT_1)


def test_who_does_not_agree_gets_nothing(s3, run, berg_dir, monkeypatch):
    monkeypatch.setattr("berg.cli.group.can_ask", lambda: True)
    result = run("download", "--subject", 1, code=1, answer=b"n\n")
    assert "Aborted" in result.output
    assert not berg_dir.exists()


def test_without_a_terminal_it_needs_yes(s3, run, berg_dir):
    assert "--yes" in run("download", "--subject", 1, code=2).stderr
    assert not berg_dir.exists()
    run("download", MODEL_ID, "--subject", "1", "2", "--yes", "--quiet")
    assert found(berg_dir) == OBJECTS
    # With nothing to fetch there is nothing to ask.
    result = run("download", "--subject", "1-2", "--quiet")
    assert "Nothing to fetch" in result.stdout


def test_a_dry_run_fetches_nothing(s3, run, berg_dir):
    result = run("download", "--subject", 1, "--dry-run")
    assert "To fetch: 1.4 MB in 4 files" in result.stdout
    assert not berg_dir.exists()


def test_progress_is_shown_unless_quiet(s3, run):
    assert "Downloading: 100%" in run("download", "--subject", 1, "--yes").stderr
    assert run("download", "--subject", 2, "--yes", "--quiet").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["fmri-nsd_fsaverage-alexnet_untrainde", "--subject", "1"], 1, "Did you mean"),
        (["--subject", "9"], 1, "has no subject 9"),
        (["--subject", "x"], 2, "is not a subject"),
        (["--subject", "1", "--endpoint-url", "mirror"], 1, "endpoint is not an address"),
    ],
)
def test_bad_input(run, arguments, code, message):
    assert message in run("download", *arguments, "--yes", code=code).stderr


def test_offline(run, monkeypatch):
    monkeypatch.setenv("BERG_OFFLINE", "1")
    assert "BERG_OFFLINE forbids it" in run("download", "--subject", 1, code=1).stderr


def test_other_files_need_force(s3, run, berg_dir):
    path = berg_dir / WEIGHTS
    path.parent.mkdir(parents=True)
    path.write_bytes(b"trained here")
    result = run("download", "--subject", 1, "--yes", code=1)
    assert "--force" in result.stderr
    run("download", "--subject", 1, "--yes", "--quiet", "--force")
    assert found(berg_dir) == whole(OF_SUBJECT_1)


def test_own_plots_are_kept_and_told(s3, run, berg_dir):
    own = berg_dir / PLOTS / "average.svg"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"drawn here")
    result = run("download", "--subject", 1, "--yes", "--quiet")
    assert "All 4 files are there, as the bucket has them, but for 1 that are kept" in result.stdout
    assert own.read_bytes() == b"drawn here"


def test_verify_tells_each_file_and_fails_if_one_is_damaged(s3, run, berg_dir):
    run("download", "--subject", 1, "--yes", "--quiet")
    own = (berg_dir / WEIGHTS).with_name("weights_subject-07.npy")
    own.write_bytes(b"trained here")
    result = run("verify", "--quiet")
    assert "5 files: 4 ok, 0 damaged or missing, 1 without a record" in result.stdout
    (berg_dir / WEIGHTS).write_bytes(OBJECTS[WEIGHTS][:-1] + b"?")
    (berg_dir / METADATA).unlink()
    result = run("verify", "--quiet", code=1)
    for status, key in (("damaged", WEIGHTS), ("missing", METADATA)):
        name = key.rpartition("/")[2]
        assert any(status in line and name in line for line in result.stdout.splitlines())
    assert "5 files: 2 ok, 2 damaged or missing, 1 without a record" in result.stdout
    assert "berg download --subject N --force" in result.stderr


def test_verify_of_nothing(run, berg_dir):
    assert "no such berg_dir" in run("verify", code=1).stderr
    berg_dir.mkdir()
    assert "no files of models" in run("verify").stdout
