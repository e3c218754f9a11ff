"""The examples of docs/getting-models.md, run as they are written there."""

from __future__ import annotations

import json
import re
from dataclasses import fields

import pytest
from click.testing import CliRunner

from berg.cli import main
from berg.downloads import Record, load_manifest
from conftest import REAL_CARD
from documented import blocks, outputs, section
from downloads_fixture import s3
from s3_fixture import METADATA, WEIGHTS

__all__ = ["s3"]  # fixtures

GUIDE = "docs/getting-models.md"


@pytest.mark.enable_socket
def test_the_examples_in_python_print_what_the_guide_says(s3, tiny, monkeypatch, tmp_path, capsys):
    for path, key in ((tiny.weights_npy, WEIGHTS), (tiny.metadata_npy, METADATA)):
        s3.put({key: path.read_bytes()})
    monkeypatch.chdir(tmp_path)
    code = "\n".join(blocks(section(GUIDE), "python"))
    assert outputs(code)
    exec(code, {})
    assert capsys.readouterr().out.splitlines() == outputs(code)
    # And the manifest that came of it has the documented form.
    (shown,) = blocks(section("docs/formats.md", "manifest.json"), "json")
    manifest = REAL_CARD.files(tmp_path / "berg-dir").manifest
    documented, written = json.loads(shown), json.loads(manifest.read_text())
    (entry,) = documented.pop("files").values()
    assert entry.keys() == {field.name for field in fields(Record)}
    assert documented == {key: written[key] for key in documented}
    assert load_manifest(manifest.parent)


@pytest.mark.parametrize("command", ["download", "verify"])
def test_the_guide_names_options_that_exist(command):
    text = CliRunner().invoke(main, [command, "--help"]).output
    options = {"--berg-dir"}
    if command == "download":
        options |= set(re.findall(r"^\| `(--[\w-]+)", section(GUIDE), re.MULTILINE))
        assert len(options) > 5
    assert all(option in text for option in options)
