"""Pages of responses and of models, read back without a browser."""

import base64
import io
import os
import re
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import berg
import lazy_responses
from berg import BERG, write_report
from berg.cli import main
from berg.errors import (
    BERGWarning,
    FileFormatError,
    InvalidParameterError,
    InvalidParameterTypeError,
    MetadataNotFoundError,
    MissingExtraError,
    ReportSourceNotFoundError,
    ResourceError,
    WeightsNotFoundError,
)
from berg.layout import cached_simulation
from berg.metadata import is_simulated, save_metadata
from berg.reports import pictures
from berg.reports.regions import UNKNOWN_SUBJECT
from berg.responses import Responses, save_responses
from berg.surface.fsaverage import n_vertices
from conftest import MODEL_ID, REAL_CARD
from documented import section
from report_fixture import (
    HEMIS,
    PROVENANCE,
    N,
    Page,
    berg_dir,
    metadata,
    part_of,
    photographs,
    responses,
    rois,
    write_npz,
)

MM_PER_PIXEL = pictures._MM_PER_PIXEL
NAMES = ("photos/cat.png", "photos/dog.png", "house.png")


@pytest.fixture(autouse=True)
def small_maps(monkeypatch):
    """Still maps take most of the time, and few tests look at them."""
    monkeypatch.setattr(pictures, "_MM_PER_PIXEL", 2.0)


@pytest.fixture
def full_maps(small_maps, monkeypatch):
    """Still maps as users get them."""
    monkeypatch.setattr(pictures, "_MM_PER_PIXEL", MM_PER_PIXEL)


@pytest.fixture
def models(tmp_path):
    return berg_dir(tmp_path)


def report(what, tmp_path, models, **options) -> Page:
    return Page(write_report(what, tmp_path / "report.html", berg_dir=models, **options))


def run(*arguments, code=0):
    result = CliRunner().invoke(main, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


# --- pages of responses


def test_it_holds_the_values_of_every_image(tmp_path, models):
    path, saved = write_npz(tmp_path, NAMES)
    page = report(path, tmp_path, models)
    for number, name in enumerate(NAMES):
        assert page.data["groups"][0]["maps"][number]["title"] == name
        values = page.map(number)
        largest = max(np.abs(getattr(saved, hemi)[number]).max() for hemi in HEMIS)
        for hemi in HEMIS:
            # Half a step of int16, whose ends are the map's largest absolute value.
            np.testing.assert_allclose(
                values[hemi], getattr(saved, hemi)[number], rtol=0, atol=0.51 * largest / 32767
            )


def test_a_full_map_is_cut_to_the_vertices_of_fsaverage6(tmp_path):
    saved = responses(["a"])
    rng = np.random.default_rng(0)
    rows = {hemi: rng.standard_normal((1, n_vertices())).astype(np.float32) for hemi in HEMIS}
    whole = replace(
        saved,
        **rows,
        **{f"{hemi}_vertices": np.arange(n_vertices()) for hemi in HEMIS},
        provenance={"subject": 1},
    )
    values = report(whole, tmp_path, tmp_path).map(0)
    for hemi in HEMIS:
        assert values[hemi].shape == (n_vertices(6),)
        np.testing.assert_allclose(values[hemi], rows[hemi][0, : n_vertices(6)], rtol=0, atol=1e-4)


def test_bars_and_matrix_are_means_over_regions(tmp_path, models):
    saved = responses(NAMES)
    page = report(saved, tmp_path, models)
    for number in range(len(NAMES)):
        bars = page.bars(number)
        assert list(bars) == ["V1v", "FFA-2", "nsdgeneral"]  # in the metadata's order, none empty
        for name, found in bars.items():
            for hemi, mean in zip(HEMIS, found, strict=True):
                inside = getattr(saved, hemi)[number, rois(hemi)[name]]
                if len(inside):
                    assert mean == pytest.approx(inside.astype(float).mean(), abs=1e-5)
                else:
                    assert mean is None
    rows = re.findall(r'<tr data-region="([^"]+)">(.*?)</tr>', page.html, re.DOTALL)
    assert [name for name, _ in rows] == ["V1v", "FFA-2", "nsdgeneral"]
    for name, row in rows:
        cells = re.findall(r"<td[^>]*>([^<]+)</td>", row)
        for number, cell in enumerate(cells):
            both = [getattr(saved, hemi)[number, rois(hemi)[name]] for hemi in HEMIS]
            # Printed with two decimals.
            assert float(cell.replace("−", "-")) == pytest.approx(
                np.concatenate(both).mean(), abs=0.0051
            )


def test_cells_are_red_above_zero_blue_below_and_readable(tmp_path, models):
    page = report(responses(NAMES), tmp_path, models)
    cells = re.findall(r'<td style="background:#(\w{6});color:#(\w{3})">([^<]+)<', page.html)
    assert len(cells) == 9
    for background, ink, text in cells:
        red, green, blue = (int(background[i : i + 2], 16) / 255 for i in (0, 2, 4))
        value = float(text.replace("−", "-"))
        assert value == 0 or (red > blue) == (value > 0)
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)
        ]
        luminance = np.dot(linear, (0.2126, 0.7152, 0.0722)) + 0.05
        contrast = luminance / 0.05 if ink == "000" else 1.05 / luminance
        assert contrast > 4.5  # WCAG AA


def test_it_fetches_nothing_and_says_simulated(tmp_path, models):
    page = report(responses(NAMES), tmp_path, models)
    assert page.sources
    assert all(source.startswith("data:") for source in page.sources)
    assert not re.search(r"@import|url\(", page.html)
    assert "SIMULATED" in page.text
    assert "subject 1" in page.text
    assert "ab" * 32 in page.text
    assert "in silico response (z)" in page.html


def test_what_is_not_simulated_is_not_called_so_and_what_is_unknown_is_said(tmp_path, models):
    saved = responses(NAMES)
    measured = replace(saved, provenance=PROVENANCE | {"simulated": False})
    assert "SIMULATED" not in report(measured, tmp_path, tmp_path).text
    unknown = replace(saved, provenance={})
    page = report(unknown, tmp_path, models)
    assert "Nothing in the file tells whether the subject is a simulated one" in page.text
    assert "nothing tells which subject this is" in page.text


@pytest.mark.parametrize(
    ("made_by", "kept", "match"),
    [
        ({"simulated": True}, {}, True),
        ({"simulated": False}, {}, False),
        ({"simulated": None}, {}, False),  # perhaps measured
        ({"simulated": True}, {"simulated": False}, False),
        ({"simulated": True}, {"weights_sha256": "ab" * 32}, True),
        ({"simulated": True}, {"weights_sha256": "cd" * 32}, False),  # another simulated brain
        ({"mesh": "fsaverage5"}, {}, True),
        ({"mesh": "fsaverage6"}, {}, False),  # of a larger brain
        ({}, "damaged", False),
    ],
)
def test_only_regions_of_the_same_brain_are_taken(tmp_path, made_by, kept, match):
    known = metadata()
    known["provenance"] = known["provenance"] | kept if isinstance(kept, dict) else kept
    if not is_simulated(known):  # a measured brain has full size
        for part in (known["fmri"], known["encoding_models"]):
            part |= {k: np.resize(v, n_vertices()) for k, v in part.items() if len(v) == N}
    save_metadata(REAL_CARD.files(tmp_path).metadata(1), known)
    saved = responses(NAMES[:1], provenance=PROVENANCE | made_by)
    page = report(saved, tmp_path, tmp_path)
    if match:
        assert list(page.bars(0)) == ["V1v", "FFA-2", "nsdgeneral"]
    else:
        assert page.data["groups"][0]["regions"] == []
        assert "No bars: the responses are of another brain than the metadata" in page.text
        assert f"metadata in {tmp_path}; --berg-dir names another" in page.text


def test_vertices_that_the_metadata_do_not_have_are_of_another_brain(tmp_path, models):
    vertices = np.array([5, N + 7])
    rows = np.ones((1, 2), np.float32)
    saved = responses(["a"], lh=rows, rh=rows, lh_vertices=vertices, rh_vertices=vertices)
    page = report(saved, tmp_path, models)
    assert "the responses are of another brain" in page.text
    assert np.flatnonzero(np.isfinite(page.map(0)["lh"])).tolist() == vertices.tolist()


def test_a_simulated_subject_is_found_in_the_cache_by_its_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("BERG_CACHE_DIR", str(tmp_path / "cache"))
    known = metadata()
    known["provenance"]["weights_sha256"] = PROVENANCE["weights_sha256"]
    save_metadata(REAL_CARD.files(cached_simulation(1)).metadata(1), known)
    known["provenance"]["weights_sha256"] = "cd" * 32
    save_metadata(REAL_CARD.files(cached_simulation(2)).metadata(1), known)
    path, _ = write_npz(tmp_path, NAMES[:1])
    out = write_report(path, tmp_path / "r.html")  # where the default berg_dir is empty
    assert list(Page(out).bars(0)) == ["V1v", "FFA-2", "nsdgeneral"]
    known["provenance"]["weights_sha256"] = "ef" * 32
    save_metadata(REAL_CARD.files(cached_simulation(1)).metadata(1), known)
    page = Page(write_report(path, tmp_path / "r.html"))
    assert "No bars: there are no metadata of subject 1" in page.text


@pytest.mark.usefixtures("full_maps")
def test_photographs_stand_beside_their_maps(tmp_path, models):
    colours = photographs(tmp_path, NAMES)
    page = report(write_npz(tmp_path, NAMES)[0], tmp_path, models)
    figures = re.findall(r"<figure>(.*?)</figure>", page.html, re.DOTALL)
    assert len(figures) == len(NAMES)
    for figure, name, colour in zip(figures, NAMES, colours, strict=True):
        (photograph,) = re.findall(r"data:image/jpeg;base64,([^\"]+)", figure)
        (cortex,) = re.findall(r"data:image/webp;base64,([^\"]+)", figure)
        assert f'alt="Photograph {name}"' in figure
        with Image.open(io.BytesIO(base64.b64decode(photograph))) as image:
            assert max(image.size) <= 320
            middle = np.array(image.getpixel((image.width // 2, image.height // 2)), int)
        assert np.abs(middle - colour).max() < 6  # what JPEG may change of a flat colour
        with Image.open(io.BytesIO(base64.b64decode(cortex))) as image:
            pixels = np.asarray(image.convert("RGBA"))
        assert len(np.unique(pixels[pixels[..., 3] == 255][:, :3], axis=0)) > 1000
        assert (pixels[0, 0, 3], pixels[-1, -1, 3]) == (0, 0)  # clear around the brain


def test_a_photograph_that_is_not_found_is_named_with_what_to_do(tmp_path, models):
    photographs(tmp_path, NAMES[:1])
    page = report(write_npz(tmp_path, NAMES)[0], tmp_path, models)
    assert page.html.count('alt="Photograph') == 1
    assert page.text.count("not found; say where the photographs are: --images-from FOLDER") == 2


def test_names_are_text_and_never_markup(tmp_path, models):
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>.png"
    page = report(responses([evil, "b"]), tmp_path, models)
    clean = report(responses(["a", "b"]), tmp_path, models)
    assert page.tags == clean.tags
    assert page.data["groups"][0]["maps"][0]["title"] == evil
    assert "alert(1)</script>" not in page.html


def test_a_selection_leaves_the_rest_grey_and_names_what_is_covered_in_part(tmp_path, models):
    chosen = {hemi: rois(hemi)["V1v"] for hemi in HEMIS}
    saved = part_of(responses(NAMES), chosen)
    page = report(saved, tmp_path, models)
    values = page.map(0)
    for hemi in HEMIS:
        np.testing.assert_array_equal(np.flatnonzero(np.isfinite(values[hemi])), chosen[hemi])
    assert list(page.bars(0)) == ["V1v"]
    assert "Left out, as the responses have only a part of them: nsdgeneral." in page.text


def test_a_hemisphere_that_was_left_out_is_left_out_of_the_regions(tmp_path, models):
    whole = responses(NAMES)
    saved = part_of(whole, {"lh": np.arange(N), "rh": np.arange(0)})
    page = report(saved, tmp_path, models)
    inside = whole.lh[0, rois("lh")["V1v"]].astype(float)
    assert page.bars(0)["V1v"] == [pytest.approx(inside.mean(), abs=1e-5), None]
    assert "FFA-2" not in page.bars(0)  # in the right hemisphere alone
    assert "The responses have no vertices in the right hemisphere" in page.text


def test_without_the_regions_it_says_why_there_are_no_bars(tmp_path):
    page = report(
        responses(NAMES, provenance={"mesh": "fsaverage5"} | PROVENANCE), tmp_path, tmp_path
    )
    assert page.data["groups"][0]["regions"] == []
    assert "No bars: there are no metadata of subject 1" in page.text
    assert "--berg-dir names another" in page.text
    assert 'class="matrix"' not in page.html


@pytest.mark.parametrize(
    ("images", "shown", "said"),
    [
        (2, [0, 1], "the first 2 of 12 images"),
        (99, list(range(12)), "all 12 images"),
        ([3, "7.png", -1], [3, 7, 11], "3 of 12 images"),
        (["3", "-1"], [3, 11], "2 of 12 images"),
        (np.int64(2), [0, 1], "the first 2 of 12 images"),
        (np.array([2, 0]), [2, 0], "2 of 12 images"),
        ([np.int64(2)], [2], "1 of 12 images"),
        (10, list(range(10)), "the first 10 of 12 images"),
    ],
)
def test_which_images_are_shown(tmp_path, models, images, shown, said):
    page = report(responses([f"{i}.png" for i in range(12)]), tmp_path, models, images=images)
    assert [each["title"] for each in page.data["groups"][0]["maps"]] == [f"{i}.png" for i in shown]
    assert said in page.text


def test_a_number_is_a_name_first_and_then_a_place(tiny, images, tmp_path):
    names = ("000000000139", "1", "0")
    path, saved = write_npz(tmp_path, names, provenance={"mesh": "fsaverage5"})
    model = BERG(tiny.berg_dir).get_encoding_model(MODEL_ID, "cpu", subject=1)
    lazy = model.encode_lazily(images, names=list(names), show_progress=False)
    for what in (path, saved, lazy):
        page = report(what, tmp_path, tmp_path, images=["0", "000000000139", "2", 1])
        titles = [each["title"] for each in page.data["groups"][0]["maps"]]
        assert titles == ["0", "000000000139", "0", "1"]
    with pytest.raises(InvalidParameterError, match="no image is called"):
        report(saved, tmp_path, tmp_path, images=["1.5"])
    twice = replace(saved, names=("0", "0", "x"))
    with pytest.raises(InvalidParameterError, match="2 images are called '0'"):
        report(twice, tmp_path, tmp_path, images=["0"])


@pytest.mark.usefixtures("full_maps")
def test_ten_images_of_the_whole_surface_stay_small(tmp_path):
    rng = np.random.default_rng(0)
    rows = {hemi: rng.standard_normal((10, n_vertices())).astype(np.float32) for hemi in HEMIS}
    saved = responses(
        [f"{i}.png" for i in range(10)],
        **rows,
        **{f"{hemi}_vertices": np.arange(n_vertices()) for hemi in HEMIS},
        provenance={"subject": 1},
    )
    for name in saved.names:  # noise is the largest photograph there can be
        pixels = rng.integers(0, 256, (400, 400, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)
    path = write_report(saved, tmp_path / "r.html", images_from=[tmp_path], berg_dir=tmp_path)
    assert path.stat().st_size < 15e6


def test_an_image_without_responses_is_shown_as_such(tmp_path, models):
    saved = responses(NAMES)
    saved.lh[1] = saved.rh[1] = np.nan
    page = report(saved, tmp_path, models)
    assert np.isnan(page.map(1)["lh"]).all()
    assert page.bars(1)["V1v"] == [None, None]
    assert page.text.count("no responses: the image could not be read") == 1
    saved.lh[:] = saved.rh[:] = np.inf
    with pytest.raises(InvalidParameterError, match="nothing to show"):
        report(saved, tmp_path, models)


def test_views_are_those_of_the_vertices_also_if_the_first_image_has_no_responses(tmp_path, models):
    chosen = {hemi: rois(hemi)["V1v"] for hemi in HEMIS}
    saved = part_of(responses(NAMES[:2]), chosen)
    expected = re.search(r"hemisphere, (\w+ above \w+)\.", report(saved, tmp_path, models).text)[1]
    assert expected != "lateral above ventral"
    saved.lh[0] = saved.rh[0] = np.nan
    assert f"hemisphere, {expected}." in report(saved, tmp_path, models).text


# --- stores and responses in memory


def test_a_model_in_memory_and_a_store_give_the_same_page(tiny, images, tmp_path):
    model = BERG(tiny.berg_dir).get_encoding_model(MODEL_ID, "cpu", subject=1)
    lazy = model.encode_lazily(images, names=["a", "b", "c"], show_progress=False)
    page = report(lazy, tmp_path, tiny.berg_dir)
    expected = lazy.compute()
    for hemi, rows in zip(HEMIS, expected, strict=True):
        np.testing.assert_allclose(page.map(2)[hemi], rows[2], rtol=0, atol=1e-4)
    photographs(tmp_path / "photos", ["a.png", "b.png"])
    berg.encode_to_store(
        [tmp_path / "photos"],
        tmp_path / "s.zarr",
        [1],
        berg_dir=tiny.berg_dir,
        device="cpu",
        show_progress=False,
    )
    page = report(tmp_path / "s.zarr", tmp_path, tiny.berg_dir)
    stored = berg.open_store(tmp_path / "s.zarr", berg_dir=tiny.berg_dir)
    for hemi, rows in zip(HEMIS, stored.compute(), strict=True):
        np.testing.assert_allclose(page.map(1)[hemi], rows[1], rtol=0, atol=1e-4)
    assert page.html.count('alt="Photograph') == 2


def test_of_many_images_only_those_that_are_shown_are_read(tmp_path):
    store = lazy_responses.FakeStore(lazy_responses.scores(5000))
    lazy = Responses(store, lazy_responses.readout(), mesh="fsaverage0")
    page = report(lazy, tmp_path, tmp_path, images=3)
    assert sum(store.reads) == 3
    assert "the first 3 of 5,000 images" in page.text


def test_a_store_says_what_it_lacks(tiny, tmp_path):
    photos = tmp_path / "photos"
    photographs(photos, [f"{number}.png" for number in range(4)])
    (photos / "0.png").write_bytes(b"no image")
    options = {"berg_dir": tiny.berg_dir, "show_progress": False}
    path = tmp_path / "s.zarr"
    berg.encode_to_store([photos], path, [1], skip_bad=True, device="cpu", **options)
    with pytest.warns(BERGWarning, match="1 of 4 images .* could not be read"):
        page = report(path, tmp_path, tiny.berg_dir, subject=np.int64(1))
    assert "Left out, as they could not be read: 1 of the store's 4 images." in page.text
    assert "all 3 images" in page.text
    with pytest.raises(InvalidParameterError, match="shows one subject"):
        report(path, tmp_path, tiny.berg_dir, subject=[1, 2])
    with pytest.raises(InvalidParameterError, match="does not have subject 2"):
        report(path, tmp_path, tiny.berg_dir, subject=2)
    shutil.rmtree(tiny.weights_npy.parent)
    with (
        pytest.raises(WeightsNotFoundError, match="no weights of subject 1"),
        pytest.warns(BERGWarning, match="could not be read"),
    ):
        report(path, tmp_path, tiny.berg_dir)


# --- pages of models


def test_a_model_shows_accuracy_where_the_ceiling_is_high_enough(tmp_path, models):
    page = report(MODEL_ID, tmp_path, models)
    scores = metadata()["encoding_models"]
    titles = [each["title"] for each in page.data["groups"][0]["maps"]]
    assert len(titles) == 6
    assert titles[0] == "Explained variance, NSD-core"
    assert [(scale["low"], scale["high"]) for scale in page.data["scales"]] == [
        (0, 100),
        (0, 0.8),
        (0, 0.8),
    ]
    number = titles.index("r², NSD-synthetic")
    for hemi in HEMIS:
        r2, ceiling = (scores[f"{hemi}_{key}_nsdsynthetic"] for key in ("r2", "noise_ceiling"))
        expected = np.where(ceiling < 0.1, np.nan, r2)
        np.testing.assert_allclose(page.map(number)[hemi], expected, rtol=0, atol=1e-4)
        inside = expected[rois(hemi)["V1v"]]
        assert page.bars(number)["V1v"][HEMIS.index(hemi)] == pytest.approx(
            np.nanmedian(inside), abs=1e-5
        )


def test_a_model_shows_its_card_training_and_what_to_cite(tmp_path, models):
    page = report(MODEL_ID, tmp_path, models)
    assert "SIMULATED" in page.text
    assert "Training images 900" in page.text
    assert "made <b>up</b> for tests" in page.text  # as text
    assert "Nature Neuroscience, 25, 116–126." in page.text
    assert "https://doi.org/10.1038/s41593-021-00962-x" in page.text
    assert "@article{" in page.text
    assert "Parameters of get_encoding_model" in page.text
    assert all(source.startswith("data:") for source in page.sources)


def test_metadata_without_nsd_synthetic_show_what_there_is(tmp_path):
    page = report(MODEL_ID, tmp_path, berg_dir(tmp_path, synthetic=False))
    assert len(page.data["groups"][0]["maps"]) == 3
    assert "have no accuracy on NSD-synthetic" in page.text


def test_several_subjects_share_one_page(tmp_path, models):
    files = REAL_CARD.files(models)
    save_metadata(files.metadata(4), metadata(synthetic=False))
    page = report(MODEL_ID, tmp_path, models)  # all that there are
    assert [len(group["maps"]) for group in page.data["groups"]] == [6, 3]
    assert "subjects 1, 4" in page.text
    for subject in (4, np.int64(4), np.array([4]), (4,)):
        assert len(report(MODEL_ID, tmp_path, models, subject=subject).data["groups"]) == 1


def test_metadata_without_accuracy_are_refused(tmp_path, models):
    bare = metadata()
    bare["encoding_models"] = {}
    save_metadata(REAL_CARD.files(models).metadata(1), bare)
    with pytest.raises(InvalidParameterError, match=r"no accuracy to show[\s\S]*berg test"):
        report(MODEL_ID, tmp_path, models)


# --- the command line


def test_the_command_writes_the_page_and_says_where(tmp_path, models, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_npz(tmp_path, NAMES)
    (tmp_path / "report.html").write_text("an older one")
    told = run(
        "report", "responses.npz", "--image", "1", "--image", "house.png", "--berg-dir", models
    )
    assert told.stdout.startswith("report.html: ")
    page = Page(tmp_path / "report.html")
    assert [each["title"] for each in page.data["groups"][0]["maps"]] == [NAMES[1], NAMES[2]]
    run("report", MODEL_ID, "--subject", 1, "--out", "m.html", "--berg-dir", models)
    assert "the model" in run("report", "--help").output.lower()
    assert (
        "exclude each other"
        in run("report", "responses.npz", "--images", 1, "--image", "0", code=2).output
    )


def test_errors_say_what_to_do(tmp_path, models):
    path, saved = write_npz(tmp_path, NAMES)
    for what, error, match in (
        (MODEL_ID + "d", ReportSourceNotFoundError, f"Did you mean '{MODEL_ID}'"),
        (tmp_path / "none.npz", ReportSourceNotFoundError, "no file, store or model"),
        (tmp_path, (FileFormatError, berg.BERGError, FileNotFoundError), "store"),
        (
            replace(saved, lh=saved.lh[:0], rh=saved.rh[:0], names=()),
            InvalidParameterError,
            "no images",
        ),
        (5, InvalidParameterTypeError, "nothing to report on"),
    ):
        with pytest.raises(error, match=match):
            report(what, tmp_path, models)
    (tmp_path / "image.png").write_bytes(b"x")
    with pytest.raises(FileFormatError, match=r"ends in '\.png'"):
        report(tmp_path / "image.png", tmp_path, models)
    parts = dict(np.load(path))
    for provenance in ("[1]", "null", '"text"', "5"):
        np.savez(tmp_path / "list.npz", **parts | {"provenance": np.array(provenance)})
        with pytest.raises(FileFormatError, match="provenance is"):
            report(tmp_path / "list.npz", tmp_path, models)
    (tmp_path / "bad.npz").write_bytes(path.read_bytes()[:5000])
    with pytest.raises(FileFormatError, match="cannot be read as responses"):
        report(tmp_path / "bad.npz", tmp_path, models)
    with pytest.raises(
        InvalidParameterError, match=r"'photos/cat\.pgn'\. Did you mean 'photos/cat"
    ):
        report(saved, tmp_path, models, images=["photos/cat.pgn"])
    for images in (0, 101, [], True, "cat"):
        with pytest.raises(InvalidParameterError, match="images"):
            report(saved, tmp_path, models, images=images)
    with pytest.raises(InvalidParameterError, match="of one subject already"):
        report(path, tmp_path, models, subject=1)
    with pytest.raises(InvalidParameterError, match="not of a model"):
        report(MODEL_ID, tmp_path, models, images_from=["photos"])
    with pytest.raises(MetadataNotFoundError, match="berg download"):
        report(MODEL_ID, tmp_path, tmp_path / "nowhere")
    with pytest.raises(InvalidParameterError, match="no subject 9"):
        report(MODEL_ID, tmp_path, models, subject=9)
    assert not (tmp_path / "report.html").exists()


def test_a_foreign_file_is_shown_safely(tmp_path, models):
    half = "half \ud800 a character.png"
    saved = responses(
        [half, "x" * 300 + ".png", "nothing \0.png"],
        provenance=PROVENANCE
        | {"rois": 5, "mesh": "fsaverage5", "device": half, "subject": [1], "berg": {"a": None}},
    )
    path = save_responses(tmp_path / "foreign \udcff.npz", saved)
    page = report(path, tmp_path, models)
    assert "5" in page.text.split()  # the regions
    assert page.text.count(r"half \ud800 a character.png") >= 3
    assert r"foreign \udcff.npz" in page.text
    assert UNKNOWN_SUBJECT in page.text
    told = run("report", path, "--out", tmp_path / "page \udcff.html", "--berg-dir", models)
    assert "open it in a browser" in told.output


def test_where_a_page_cannot_be_written_is_said_before_the_work(tmp_path, models):
    saved = responses(NAMES[:1])
    (tmp_path / "folder.html").mkdir()
    for out, error, match in (
        ("page.pdf", InvalidParameterError, r"accepted: a file name that ends in \.html"),
        ("folder.html", InvalidParameterError, "a folder"),
        ("berg/encoding_models/x.html", None, ""),
    ):
        if error is None:
            assert write_report(saved, tmp_path / out, berg_dir=models).is_file()
            continue
        with pytest.raises(error, match=match):
            write_report(saved, tmp_path / out, berg_dir=models)
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match="not a folder"):
        write_report(saved, tmp_path / "file" / "x.html", berg_dir=models)
    if os.geteuid():  # root may write anywhere
        (tmp_path / "closed").mkdir(mode=0o500)
        with pytest.raises(ResourceError, match="not writable"):
            write_report(saved, tmp_path / "closed" / "x.html", berg_dir=models)


def test_missing_packages_are_named(tmp_path, models, monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.setattr("berg.reports.rendering.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r'pip install "berg\[report\]"'):
        write_report(responses(NAMES), tmp_path / "r.html", berg_dir=models)


def test_the_guide_names_options_that_exist():
    offered = run("report", "--help").output
    guide = section("docs/report.md")
    options = set(re.findall(r"--[a-z-]+", guide))
    assert {"--images", "--image", "--images-from", "--berg-dir", "--out"} <= options
    assert all(re.search(rf"{option}\b", offered) for option in options)
