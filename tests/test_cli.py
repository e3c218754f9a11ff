"""The command line: exit codes, what it says and where, what it leaves on disk."""

import copy
import json
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import berg
from berg import BERG
from berg.cli import main
from berg.metadata import save_metadata
from berg.responses import load_responses
from conftest import MODEL_ID, N_VERTICES


def run(*arguments, code=0):
    """Invoke the command line; any exception but click's own goes on to the test."""
    result = CliRunner().invoke(main, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def here(tmp_path, monkeypatch, tiny):
    """An own working directory beside the tiny model's berg_dir, which is the default one."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("BERG_DIR", str(tiny.berg_dir))
    return folder


@pytest.fixture
def photos(here, rng):
    """Two square pictures and a wide one in a folder, and an array of two images."""
    (here / "photos").mkdir()
    for name, shape in (("a.png", (256, 256)), ("b.jpg", (240, 320)), ("c.bmp", (300, 300))):
        pixels = rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(here / "photos" / name)
    np.save(here / "two.npy", rng.integers(0, 256, (2, 3, 230, 230)))
    return here / "photos"


def central_square(path):
    pixels = np.asarray(Image.open(path).convert("RGB"))
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side].transpose(2, 0, 1)[np.newaxis]


# --- encode


def test_files_folders_and_arrays_are_encoded_as_the_api_does(photos, tiny):
    result = run("encode", "photos/c.bmp", "photos", "two.npy", "--subject", 1, "--device", "cpu")
    saved = load_responses("responses.npz")
    files = ["photos/c.bmp", "photos/a.png", "photos/b.jpg", "photos/c.bmp"]
    assert saved.names == (*files, "two.npy[0]", "two.npy[1]")
    assert "1 of 6 images: not square, cut to the central square" in result.stdout
    assert "responses.npz: images 6, vertices 12 left and 12 right" in result.stdout

    model = BERG(tiny.berg_dir).get_encoding_model(MODEL_ID, "cpu", subject=1)
    stimuli = [*map(central_square, files), np.load("two.npy")]
    rows = [model.generate_response(stimulus, show_progress=False) for stimulus in stimuli]
    for ours, expected in zip((saved.lh, saved.rh), zip(*rows, strict=True), strict=True):
        # Batches of other sizes round differently in float32.
        np.testing.assert_allclose(ours, np.concatenate(expected), rtol=0, atol=1e-4)
    np.testing.assert_array_equal(saved.lh_vertices, np.arange(N_VERTICES))
    assert saved.provenance == json.loads(json.dumps(model.provenance()))


def test_several_rois_are_their_union(photos):
    run("encode", "photos", "--subject", 1, "--roi", "V1v", "--roi", "V1d", "--out", "sub/r.npz")
    saved = load_responses("sub/r.npz")
    assert saved.lh_vertices.tolist() == [1, 2, 3, 5]
    assert saved.rh.shape == (3, 3)
    assert saved.provenance["rois"] == ["V1v", "V1d"]
    assert saved.provenance["subject"] == 1


def test_an_empty_roi_is_warned_of(photos):
    result = run("encode", "photos", "--subject", 1, "--roi", "FFA-2")
    assert "Warning: ROI FFA-2 is empty in the left hemisphere of subject 1" in result.stderr
    assert load_responses("responses.npz").lh.shape == (3, 0)


def test_small_images_are_said_once(photos, rng):
    Image.fromarray(rng.integers(0, 256, (100, 120, 3), dtype=np.uint8)).save("small.png")
    np.save("small.npy", rng.integers(0, 256, (4, 3, 90, 90)))
    result = run("encode", "photos", "small.png", "small.npy", "--subject", 1)
    assert "1 of 8 images: smaller than 224×224 pixels, enlarged" in result.stdout
    assert result.stderr.count("Warning: stimulus images are 90×90 pixels") == 1


def test_the_progress_bar_is_on_stderr_and_can_be_off(photos):
    assert "3/3" in run("encode", "photos", "--subject", 1).stderr
    assert run("encode", "photos", "--subject", 1, "--quiet").stderr == ""


def test_a_simulated_subject_is_said(photos, tiny, tiny_metadata):
    assert "SIMULATED" not in run("encode", "photos", "--subject", 1).output
    simulated = copy.deepcopy(tiny_metadata) | {"provenance": {"simulated": True}}
    save_metadata(tiny.metadata_npy, simulated)
    assert "Subject 1 is SIMULATED" in run("encode", "photos", "--subject", 1).stderr
    assert load_responses("responses.npz").provenance["simulated"] is True


@pytest.fixture
def bad_ones_among_many(photos, rng):
    (photos / "aa.jpg").write_text("no image")
    whole = (photos / "a.png").read_bytes()
    (photos / "bb.png").write_bytes(whole[: len(whole) // 2])
    (photos / "d.png").touch()
    deep = rng.integers(0, 65536, (230, 230), dtype=np.uint16)
    Image.fromarray(deep).save(photos / "e.png")
    return photos


def test_an_unreadable_image_is_named_and_nothing_is_written(bad_ones_among_many, here):
    before = sorted(here.iterdir())
    result = run("encode", "photos", "--subject", 1, code=1)
    assert "Error: photos/aa.jpg cannot be read as an image" in result.stderr
    assert "--skip-bad" in result.stderr
    assert sorted(here.iterdir()) == before
    (here / "responses.npz").write_text("older")
    run("encode", "photos", "--subject", 1, code=1)
    assert (here / "responses.npz").read_text() == "older"


def test_skipping_goes_on_and_lists_what_was_left_out(bad_ones_among_many):
    good = [f"photos/{name}" for name in ("a.png", "b.jpg", "c.bmp")]
    run("encode", *good, "--subject", 1, "--out", "good.npz")
    result = run("encode", "photos", "--subject", 1, "--skip-bad", "--out", "skipped.npz")
    assert result.stderr.splitlines()[-5:] == [
        "left out, unreadable: 4 of 7 images",
        "- photos/aa.jpg cannot be read as an image",
        "- photos/bb.png cannot be read as an image",
        "- photos/d.png cannot be read as an image",
        "- photos/e.png has more than 8 bits a channel",
    ]
    good, skipped = load_responses("good.npz"), load_responses("skipped.npz")
    assert skipped.names == good.names
    np.testing.assert_array_equal(skipped.lh, good.lh)
    np.testing.assert_array_equal(skipped.rh, good.rh)


def test_skipping_every_image_is_an_error(here):
    (here / "text.jpg").write_text("no image")
    result = run("encode", "text.jpg", "--subject", 1, "--skip-bad", code=1)
    assert "no image can be read" in result.stderr
    assert "1 unreadable, the first: text.jpg" in result.stderr
    assert not (here / "responses.npz").exists()


ENCODE = ("encode", "photos", "--subject", 1)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("encode", "photos"), 2, "Missing option '--subject'"),
        (("encode", "--subject", 1), 2, "Missing argument 'SOURCES...'"),
        (("encode", "photos", "--subject", "one"), 2, "'one' is not a subject"),
        (("encode", "photos", "--subject", 9), 1, "accepted: one of 1, 2, 3"),
        (
            ("encode", "photos", "--subject", 2),
            1,
            "berg download fmri-nsd_fsaverage-alexnet_untrained",
        ),
        (("encode", "absent.png", "--subject", 1), 1, "no file or folder absent.png"),
        (("encode", "a" * 300, "--subject", 1), 1, "check the spelling of the path"),
        (("encode", "empty", "--subject", 1), 1, "no images in the folder empty"),
        (("encode", "float.npy", "--subject", 1), 1, "float.npy: stimulus has dtype float64"),
        (("encode", "wide.npy", "--subject", 1), 1, "wide.npy: stimulus images are not square"),
        (("encode", "text.npy", "--subject", 1), 1, "np.save(path, images)"),
        (("encode", "text.pdf", "--subject", 1), 1, "accepted: image files (.png"),
        ((*ENCODE, "--model", MODEL_ID[:-1]), 1, f"Did you mean '{MODEL_ID}'?"),
        ((*ENCODE, "--roi", "v1V"), 1, "Did you mean 'V1v'?"),
        ((*ENCODE, "--roi", "FFA"), 1, "Did you mean 'FFA-1' or 'FFA-2'?"),
        ((*ENCODE, "--roi", "V1v", "--roi", "zebra"), 1, "there is no ROI 'zebra'"),
        ((*ENCODE, "--device", "tpu"), 1, "accepted: auto, cpu, cuda"),
        ((*ENCODE, "--berg-dir", "nowhere"), 1, "nowhere does not exist"),
        ((*ENCODE, "--berg-dir", "text.pdf"), 1, "berg demo"),
        ((*ENCODE, "--out", "text.pdf/r.npz"), 1, "cannot be written"),
        (("metadata",), 2, "Missing option '--subject'"),
        (("metadata", "--subject", 0), 1, "no subject 0"),
        (("metadata", "--subject", 2), 1, "has metadata_subject-01.npy"),
        (("metadata", "zebra", "--subject", 1), 1, "there is no model 'zebra'"),
        (("describe", "fmri-nsd-fwrf"), 1, "a model of the existing BERG toolkit"),
        (("convert",), 2, "Missing option '--subject'"),
        (("convert", "--subject", 3), 1, "no weights of subject 3"),
        (("convert", "--subject", 1, "--berg-dir", "nowhere"), 1, "nowhere does not exist"),
        (("demo", "--out", "text.pdf"), 2, "is a file"),
        (("encod",), 2, "Did you mean 'encode'?"),
    ],
)
def test_what_cannot_be_is_said_on_stderr_and_writes_nothing(
    photos, here, arguments, code, message
):
    (here / "empty").mkdir()
    (here / "text.pdf").write_text("no image")
    (here / "text.npy").write_text("no array")
    np.save("float.npy", np.zeros((1, 3, 256, 256)))
    np.save("wide.npy", np.zeros((1, 3, 256, 300), np.uint8))
    before = sorted(here.parent.rglob("*"))
    result = run(*arguments, code=code)
    assert message in result.stderr
    assert "Error: " in result.stderr
    assert result.stdout == ""
    assert sorted(here.parent.rglob("*")) == before


@pytest.mark.parametrize("out", ["r.nc", "r", "photos", "folder.npz"])
def test_an_output_that_cannot_be_is_refused_before_anything_is_loaded(photos, monkeypatch, out):
    (photos.parent / "folder.npz").mkdir()
    monkeypatch.setattr(BERG, "get_encoding_model", lambda *a, **k: pytest.fail("was loaded"))
    result = run("encode", "photos", "--subject", 1, "--out", out, code=1)
    assert "a file name that ends in .npz" in result.stderr


def test_damaged_files_of_the_model_are_said(photos, tiny):
    whole = tiny.weights_npy.read_bytes()
    tiny.weights_npy.write_bytes(whole[: len(whole) // 2])
    assert "truncated" in run("encode", "photos", "--subject", 1, code=1).stderr
    tiny.weights_npy.write_bytes(whole)
    tiny.metadata_npy.write_bytes(tiny.metadata_npy.read_bytes()[:1000])
    assert "truncated" in run("metadata", "--subject", 1, code=1).stderr
    assert "truncated" in run("encode", "photos", "--subject", 1, "--roi", "V1v", code=1).stderr
    assert not (photos.parent / "responses.npz").exists()


# --- the other commands


def test_convert_once_and_again_and_by_force(photos, tiny):
    run("encode", "photos", "--subject", 1, "--out", "before.npz")
    converted = tiny.weights_npy.with_suffix(".safetensors")
    assert run("convert", "--subject", 1).stdout == f"{converted}\n"
    made = converted.stat().st_mtime_ns
    again = f"{converted} is there already (--force converts again)\n"
    assert run("convert", "--subject", 1).stdout == again
    assert converted.stat().st_mtime_ns == made
    run("encode", "photos", "--subject", 1, "--out", "after.npz")
    before, after = load_responses("before.npz"), load_responses("after.npz")
    # The converted form sums the same features in another order.
    np.testing.assert_allclose(before.lh, after.lh, rtol=0, atol=1e-4)
    assert run("convert", "--subject", 1, "--force").stdout == f"{converted}\n"
    assert converted.stat().st_mtime_ns > made
    both = run("convert", "--subject", 1, "--subject", 2, code=1)
    assert both.stdout == again
    assert "no weights of subject 2" in both.stderr


def test_metadata_as_text_and_as_json(here):
    text = run("metadata", "--subject", 1).stdout
    assert text.startswith("fmri\n")
    assert "  lh_fsaverage_rois                   5 regions\n" in text
    summary = json.loads(run("metadata", MODEL_ID, "--subject", 1, "--json").stdout)
    assert set(summary) >= {"fmri", "encoding_models"}
    assert summary["encoding_models"]["test_img_num"] == "20 images"


def test_metadata_list_the_rois_of_both_hemispheres(here):
    lines = run("metadata", "--subject", 1).stdout.splitlines()
    sizes = [line.split()[-2] for line in lines if "V1v" in line]
    assert sizes == ["3", "2"]


def test_the_catalog_and_the_card(here):
    assert run("list").stdout.startswith(f"{MODEL_ID}  fMRI, Natural Scenes Dataset")
    assert run("describe").stdout == run("describe", MODEL_ID).stdout
    assert "Regions of interest" in run("describe").stdout


def test_version_and_help():
    assert run("--version").stdout == f"berg, version {berg.__version__}\n"
    commands = ("demo", "encode", "list", "describe", "metadata", "convert", "train", "test", "nsd")
    assert all(f"\n  {command} " in run("--help").stdout for command in commands)
    for command in commands:
        assert run(command, "-h").stdout.startswith("Usage: ")


def test_as_a_program_of_its_own(tmp_path):
    def program(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "berg.cli", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
        )

    assert program("list").stdout.startswith(MODEL_ID)
    failed = program("encode", "absent.png", "--subject", "1")
    assert failed.returncode == 1
    assert failed.stderr.startswith("Error: there is no file or folder absent.png\n")
    assert "Traceback" not in failed.stderr
    assert failed.stdout == ""
