"""The commands and examples of docs/model-building.md, run as they are written there."""

import re
import shlex

import numpy as np
import pytest
from click.testing import CliRunner

from berg.cli import main
from berg.errors import BERGWarning
from documented import blocks, outputs, section

GUIDE = "docs/model-building.md"
EXAMPLE = section(GUIDE, "Try it without NSD")


@pytest.fixture(scope="module")
def example(tmp_path_factory, cache_dir):
    """The folder in which the example's commands were run, and what each printed."""
    folder = tmp_path_factory.mktemp("example")
    (console,) = blocks(EXAMPLE, "console")
    printed = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERG_CACHE_DIR", str(cache_dir))
        patch.chdir(folder)
        for line in console.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "berg"
            result = CliRunner().invoke(main, arguments, catch_exceptions=False)
            assert result.exit_code == 0, result.output
            printed[arguments[0]] = result.stdout
    return folder, printed


def test_the_commands_print_what_the_guide_says(example):
    _, printed = example
    (shown,) = blocks(EXAMPLE, "text")
    ours = printed["test"].splitlines()
    for line in shown.splitlines():
        words = line.split()
        (found,) = [other.split() for other in ours if other.split()[:1] == words[:1]]
        assert len(found) == len(words)
        for said, got in zip(words, found, strict=True):
            if re.fullmatch(r"[\d.]+", said):
                # Percents, and vertices on either side of the least ceiling: other processors
                # and releases round otherwise, which moves the medians of small regions.
                np.testing.assert_allclose(float(got), float(said), rtol=0.02, atol=2)
            else:
                assert got == said


def test_what_comes_out_says_that_it_is_simulated(example):
    _, printed = example
    assert re.search(r"simulated +True", printed["metadata"])
    assert "2,562 vertices" in printed["metadata"]


def test_the_examples_in_python_print_what_the_guide_says(example, monkeypatch, capsys):
    folder, _ = example
    code = "\n".join(blocks(section(GUIDE), "python"))
    assert outputs(code)
    monkeypatch.chdir(folder)
    with pytest.warns(BERGWarning, match="only 40 test images"):
        exec(code, {})
    assert capsys.readouterr().out.splitlines() == outputs(code)


def test_the_guide_names_options_that_exist():
    train = CliRunner().invoke(main, ["train", "--help"]).output
    options = re.findall(r"^- `(--\w+)", section(GUIDE, "Options"), re.MULTILINE)
    assert len(options) > 3
    assert all(option in train for option in options)


def test_the_guide_to_pictures_does_what_it_says(example, monkeypatch, capsys):
    folder, _ = example
    code = "\n".join(blocks(section("docs/pictures.md"), "python"))
    monkeypatch.chdir(folder)
    exec(code, {})
    assert capsys.readouterr().out.splitlines() == outputs(code)
    written = re.findall(r'"(\w+\.(?:png|svg))"\)', code)
    assert len(written) == 3
    assert all((folder / name).stat().st_size > 10_000 for name in written)


def test_the_guide_to_pictures_names_options_that_exist():
    text = section("docs/pictures.md")
    plot = CliRunner().invoke(main, ["plot", "--help"]).output
    options = set(re.findall(r"`(--[\w-]+)", text))
    assert len(options) > 4
    assert all(option in plot for option in options)
