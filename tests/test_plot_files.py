import xml.etree.ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from accuracy_fixture import metadata
from berg.catalog import DEFAULT_MODEL_ID, find_card
from berg.cli import main
from berg.errors import BERGWarning, InvalidParameterError, ResourceError
from berg.metadata import save_metadata
from berg.plotting import plot_accuracy, plot_roi_accuracy, save_accuracy_figures, save_figure

MAPS = {"noise_ceiling": 0.5, "r2": 0.2, "explained_variance": 40.0}
ROIS = {"V1v": ([*range(40)], [*range(40)]), "nsdgeneral": ([*range(99)], [*range(99)])}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def subject():
    return metadata(MAPS, ROIS, level=2, simulated=True)


def picture(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def words(path):
    """What is written in an SVG file as text."""
    return ["".join(text.itertext()) for text in ET.parse(path).iter(f"{SVG}text")]


def test_svg_has_its_text_as_text_and_the_same_bytes_each_time(tmp_path, subject):
    settings = dict(mpl.rcParams)
    for name in ("one.svg", "other.svg"):
        figure = plot_accuracy({1: subject}, views=["flat"], rois=["V1v"], model="a-model")
        save_figure(figure, tmp_path / name, title="A title")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()
    said = words(tmp_path / "one.svg")
    assert "subject 1 · a-model · median over nsdgeneral 40 %" in said
    assert "explained variance (% of the noise ceiling)" in said
    assert "V1v" in said
    assert "A title" in (tmp_path / "one.svg").read_text(encoding="utf-8")
    images = list(ET.parse(tmp_path / "one.svg").iter(f"{SVG}image"))
    assert len(images) >= 2  # two brains, as pixels
    assert (tmp_path / "one.svg").stat().st_size < 3e6
    assert dict(mpl.rcParams) == settings
    assert figure.dpi == 200


def test_png_and_pdf(tmp_path, subject):
    figure = plot_roi_accuracy({1: subject})
    for name in ("bars.png", "again.png", "bars.pdf", "again.pdf"):
        save_figure(figure, tmp_path / name)
    assert (tmp_path / "bars.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    assert (tmp_path / "bars.pdf").read_bytes() == (tmp_path / "again.pdf").read_bytes()
    assert (tmp_path / "bars.pdf").read_bytes().startswith(b"%PDF")
    assert picture(tmp_path / "bars.png").shape[1] == 7 * 300
    save_figure(figure, tmp_path / "small.png", dpi=50)
    assert picture(tmp_path / "small.png").shape[1] == 7 * 50


def test_an_unknown_format(tmp_path, subject):
    with pytest.raises(InvalidParameterError, match=r"'pgn'(.*\n)*.*mean 'png'"):
        save_figure(plot_roi_accuracy(subject), tmp_path / "a.pgn")
    with pytest.raises(InvalidParameterError, match="not written as this"):
        save_accuracy_figures({1: subject}, tmp_path, formats=["jpg"])


@pytest.fixture
def berg_dir(tmp_path, subject):
    """Subject 1, who was not tested on NSD-synthetic."""
    files = find_card(DEFAULT_MODEL_ID).files(tmp_path / "berg")
    save_metadata(files.metadata(1), subject)
    return tmp_path / "berg"


def test_the_command_draws_all_there_is_and_says_what_is_missing(berg_dir, tmp_path, monkeypatch):
    monkeypatch.setattr("berg.plotting.files._DPI", {"png": 50})  # quick to write
    out = tmp_path / "accuracy"
    command = ["plot", "--subject", "1", "--format", "png", "--rois", "none"]
    command += ["--berg-dir", str(berg_dir), "--out", str(out)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    expected = {
        f"{measure}_nsdcore_subject-01_{surface}.png"
        for measure in MAPS
        for surface in ("inflated", "flat")
    } | {"explained_variance_by_roi_subject-01.png"}
    assert {path.name for path in out.iterdir()} == expected
    assert {line.rpartition("/")[2] for line in result.stdout.splitlines()} == expected
    warned = result.stderr.replace("\n", " ")
    assert warned.count("not drawn") == 1
    assert "explained_variance of NSD-synthetic (subject 1)" in warned
    for path in out.iterdir():
        assert (np.ptp(picture(path), axis=2) > 40).mean() > 0.001  # it is not blank

    again = CliRunner().invoke(main, command)
    assert again.exit_code == 1
    assert "7 of the figures are there already" in again.output
    assert "--overwrite" in again.output


def test_the_command_names_what_is_missing_or_misspelt(berg_dir, tmp_path):
    def run(*arguments):
        command = ["plot", "--berg-dir", str(berg_dir), "--out", str(tmp_path / "o"), *arguments]
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 1, result.output
        return result.output

    assert "no metadata of subject 2" in run("--subject", "2")
    assert "did you mean 'v1v'?" in run("--subject", "1", "--rois", "V1w").lower()
    assert "Did you mean 'fsaverage'" in run("--subject", "1", "--mesh", "fsavrage")
    assert "Did you mean 'svg'" in run("--subject", "1", "--format", "png,svgg")
    assert not (tmp_path / "o").exists()


def test_several_values_of_an_option(berg_dir, tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(
        "berg.plotting.save_accuracy_figures", lambda *_, **given: seen.update(given) or []
    )
    command = ["plot", "--rois", "streams", "V1v", "--format", "png", "pdf", "--subject", "1"]
    command += ["--berg-dir", str(berg_dir), DEFAULT_MODEL_ID]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 0, result.output
    assert seen["rois"] == ["streams", "V1v"]
    assert seen["formats"] == ("png", "pdf")


def test_a_folder_that_cannot_be_written(tmp_path, subject):
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(ResourceError, match="cannot be written"),
        pytest.warns(BERGWarning, match="not drawn"),
    ):
        save_accuracy_figures({1: subject}, tmp_path / "file" / "out", formats=["svg"], rois=[])


def test_without_any_accuracy(tmp_path):
    with pytest.raises(InvalidParameterError, match=r"no accuracy to draw(.*\n)+.*berg test"):
        save_accuracy_figures({1: metadata({"correlation": 0.5})}, tmp_path)


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are not drawn; files say so."""
    monkeypatch.setattr(
        "berg.plotting.accuracy_files.save_figure",
        lambda figure, path, **_: path.write_text("drawn"),
    )
    monkeypatch.setattr("berg.plotting.accuracy_files.accuracy_figure", lambda *_, **__: None)


def test_the_names_of_several_subjects_and_their_average(tmp_path, subject, undrawn):
    both = metadata(MAPS, ROIS, level=2, datasets=("nsdcore", "nsdsynthetic"))
    with pytest.warns(BERGWarning, match=r"r2 of NSD-synthetic \(subject 1\)"):
        paths = save_accuracy_figures({1: subject, 12: both}, tmp_path, formats=["svg"], rois=[])
    names = [path.name for path in paths]
    assert names[0] == "r2_nsdcore_subject-01_inflated.svg"
    assert len(names) == 6 + 12 + 6 + 1
    assert "noise_ceiling_nsdcore_average-01-12_flat.svg" in names
    # One subject is no average.
    assert "noise_ceiling_nsdsynthetic_subject-12_flat.svg" in names
    assert not any("nsdsynthetic_average" in name for name in names)
    assert names[-1] == "explained_variance_by_roi_average-01-12.svg"
    assert "noise_ceiling_nsdsynthetic_subject-01_flat.svg" not in names
    (tmp_path / names[0]).write_text("another's")
    with pytest.raises(InvalidParameterError, match="25 of the figures are there already"):
        save_accuracy_figures({1: subject, 12: both}, tmp_path, formats=["svg"], rois=[])
    assert (tmp_path / names[0]).read_text() == "another's"
    with pytest.warns(BERGWarning, match="not drawn"):
        save_accuracy_figures(
            {1: subject, 12: both}, tmp_path, formats=["svg"], rois=[], overwrite=True
        )
    assert (tmp_path / names[0]).read_text() == "drawn"


def test_an_average_is_of_those_who_have_the_measure(tmp_path, subject, undrawn, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "berg.plotting.accuracy_files.accuracy_figure",
        lambda part, measure, dataset, *_, **__: drawn.append((list(part), measure, dataset)),
    )
    both = metadata(MAPS, ROIS, level=2, datasets=("nsdcore", "nsdsynthetic"))
    with pytest.warns(BERGWarning, match="not drawn"):
        paths = save_accuracy_figures(
            {5: both, 1: subject, 2: both}, tmp_path, formats=["svg"], rois=[]
        )
    assert drawn[-1] == ([5, 2], "explained_variance", "nsdsynthetic")
    assert drawn[-7] == ([5, 1, 2], "explained_variance", "nsdcore")
    assert [path.stem for path in paths[-2:]] == [
        "explained_variance_nsdsynthetic_average-02-05_flat",
        "explained_variance_by_roi_average-01-02-05",
    ]


def test_another_subject_into_the_same_folder(tmp_path, undrawn):
    tested = metadata(MAPS, ROIS, level=2, datasets=("nsdcore", "nsdsynthetic"))
    for number in (1, 2):
        save_accuracy_figures({number: tested}, tmp_path, formats=["svg"], rois=[])
    assert len(list(tmp_path.iterdir())) == 2 * (12 + 1)
