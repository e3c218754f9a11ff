"""The demo and the subject it simulates, at full size: 163,842 vertices a hemisphere."""

import re
import shutil
import threading
import tracemalloc
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray
from click.testing import CliRunner
from examples import neural_control
from PIL import Image
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from berg import BERG, alexnet, stimuli, write_report
from berg.cli import main
from berg.demo import ROIS, run_demo, simulated_berg_dir
from berg.errors import InvalidParameterError, MissingExtraError, ResourceError
from berg.layout import cached_simulation
from berg.locks import hold, is_free
from berg.responses import SavedResponses, load_responses
from berg.simulation import SIMULATION_VERSION
from berg.simulation.natural_images import photograph_crops
from berg.surface.fsaverage import neighbours
from berg.weights import load_npy
from conftest import MODEL_ID, REAL_CARD
from documented import blocks, outputs, section

N_VERTICES = REAL_CARD.n_vertices
HEMIS = ("lh", "rh")


@dataclass(frozen=True)
class Demo:
    """What one run of the demo printed and left behind."""

    text: str
    out: Path
    berg_dir: Path

    @property
    def weights_npy(self) -> Path:
        return REAL_CARD.files(self.berg_dir).weights_npy(1)

    def responses(self) -> SavedResponses:
        return load_responses(self.out / "responses.npz")

    def metadata(self) -> dict:
        return BERG(self.berg_dir).get_model_metadata(MODEL_ID, 1)


@pytest.fixture(scope="session")
def demo(tmp_path_factory, cache_dir) -> Demo:
    """The demo, run once. Its subject stays in the cache that all tests share."""
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERG_CACHE_DIR", str(cache_dir))
        result = CliRunner().invoke(main, ["demo", "--out", str(out)], catch_exceptions=False)
        assert result.exit_code == 0
        return Demo(result.stdout, out, simulated_berg_dir())


# --- what it shows


def test_of_several_processes_one_builds_the_subject(tmp_path, monkeypatch):
    monkeypatch.setenv("BERG_CACHE_DIR", str(tmp_path))
    built = []

    def build(berg_dir, subject, **_):
        built.append(is_free(berg_dir))  # `berg clean` asks this
        files = REAL_CARD.files(berg_dir)
        for path in (files.weights_npy(subject), files.metadata(subject)):
            path.parent.mkdir(parents=True)
            path.touch()

    monkeypatch.setattr("berg.demo.simulate_subject", build)
    with hold(cached_simulation(SIMULATION_VERSION)):
        waiting = threading.Thread(target=simulated_berg_dir)
        waiting.start()
        build(cached_simulation(SIMULATION_VERSION), 1)
    waiting.join()
    assert built == [False]
    shutil.rmtree(cached_simulation(SIMULATION_VERSION))
    simulated_berg_dir()
    assert built == [False, False]


def test_it_says_that_the_subject_is_simulated_and_what_comes_next(demo):
    assert demo.text.count("SIMULATED") >= 3  # before, above the table, and after
    assert "berg encode my_photos/ --berg-dir BERG_DIR --subject 1" in demo.text
    assert f"berg download {MODEL_ID} --subject 1 --berg-dir BERG_DIR" in demo.text
    assert str(REAL_CARD.facts["terms"]) in demo.text


def test_its_table_holds_the_means_of_the_regions(demo):
    saved, rois = demo.responses(), demo.metadata()["fmri"]
    columns = [
        getattr(saved, hemi)[:, rois[f"{hemi}_fsaverage_rois"][roi]].mean(axis=1)
        for roi in ROIS
        for hemi in HEMIS
    ]
    lines = demo.text.splitlines()
    header = next(number for number, line in enumerate(lines) if line.split() == list(ROIS))
    assert lines[header + 1].split() == ["left", "right"] * len(ROIS)
    for name, line, means in zip(
        photograph_crops()[1], lines[header + 2 :], np.transpose(columns), strict=False
    ):
        assert line.startswith(name)
        # Printed with two decimals.
        np.testing.assert_allclose(
            [float(number) for number in line.removeprefix(name).split()], means, atol=0.0051
        )
    assert np.std(columns, axis=1).min() > 0.1  # the photographs evoke different responses


def test_its_responses_are_whole_finite_and_traceable(demo):
    saved = demo.responses()
    photographs, names = photograph_crops()
    assert saved.names == tuple(f"photographs/{name}.png" for name in names)
    for photograph, name in zip(photographs, saved.names, strict=True):
        with Image.open(demo.out / name) as kept:
            np.testing.assert_array_equal(np.asarray(kept).transpose(2, 0, 1), photograph)
    for hemi in HEMIS:
        responses = getattr(saved, hemi)
        assert responses.shape == (8, N_VERTICES)
        assert responses.dtype == np.float32
        assert np.isfinite(responses).all()
        np.testing.assert_array_equal(getattr(saved, f"{hemi}_vertices"), np.arange(N_VERTICES))
    assert saved.provenance["simulated"] is True
    assert saved.provenance["network_sha256"] == alexnet.FINGERPRINT


def test_its_picture_is_large_and_not_blank(demo):
    with Image.open(demo.out / "cortex.png") as opened:
        pixels = np.asarray(opened.convert("RGB"))
    assert min(pixels.shape[:2]) > 1000
    blank = (pixels == pixels[0, 0]).all(axis=-1).mean()
    assert 0.1 < blank < 0.9  # neither empty nor without a margin


def test_it_ends_with_a_page_that_says_simulated_and_holds_its_photographs(demo):
    page = demo.out / "report.html"
    assert str(page) in demo.text
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg") >= 8
    assert "SIMULATED" in text
    assert page.stat().st_size < 15e6 * 8 / 10  # the limit is for ten images


def test_a_second_run_takes_the_cached_subject(demo, tmp_path):
    files = REAL_CARD.files(demo.berg_dir)
    made = [path.stat().st_mtime_ns for path in (files.metadata(1), files.weights_npy(1))]
    result = CliRunner().invoke(main, ["demo", "--out", str(tmp_path)], catch_exceptions=False)
    table = re.compile(r"^ +V1v.*?(?=\n\n)", re.DOTALL | re.MULTILINE)
    assert table.search(result.stdout)[0] == table.search(demo.text)[0]
    assert [path.stat().st_mtime_ns for path in (files.metadata(1), files.weights_npy(1))] == made


def test_a_build_that_was_interrupted_is_begun_anew(demo, tmp_path, monkeypatch):
    built = []
    monkeypatch.setattr("berg.demo.simulate_subject", lambda *a, **k: built.append(a))
    assert simulated_berg_dir() == demo.berg_dir
    assert not built
    monkeypatch.setenv("BERG_CACHE_DIR", str(tmp_path))
    metadata = REAL_CARD.files(tmp_path / demo.berg_dir.name).metadata(1)
    metadata.parent.mkdir(parents=True)
    metadata.touch()  # without its weights
    simulated_berg_dir()
    assert len(built) == 1


def test_its_responses_find_their_regions_again(demo, tmp_path):
    page = write_report(demo.out / "responses.npz", tmp_path / "r.html", images=1)
    text = page.read_text(encoding="utf-8")  # the default berg_dir is empty
    assert "No bars" not in text
    assert 'class="matrix"' in text


def test_what_would_fail_at_the_end_fails_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr("berg.demo.simulated_berg_dir", lambda: pytest.fail("the work began"))
    for name in ("report.html", "responses.npz", "cortex.png", "photographs/0.png"):
        out = tmp_path / name.replace("/", "-")
        if "0" in name:
            out.mkdir()
            (out / "photographs").write_text("no folder")
        else:
            (out / name).mkdir(parents=True)
        with pytest.raises((InvalidParameterError, ResourceError), match="cannot be written"):
            run_demo(out)
    monkeypatch.setattr("berg.reports.rendering.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="jinja2"):
        run_demo(tmp_path / "new")
    assert not (tmp_path / "new").exists()


# --- the subject that it leaves in the cache


def test_the_metadata_have_the_cards_keys_and_shapes(demo):
    metadata = demo.metadata()
    assert set(metadata) == {"fmri", "encoding_models", "provenance"}
    assert metadata["provenance"]["simulated"] is True
    for part, keys in REAL_CARD.facts["metadata"].items():
        expected = {key.format(hemi=hemi) for key in keys for hemi in HEMIS}
        assert set(metadata[part]) == expected
        for key, values in metadata[part].items():
            if key.endswith("_img_num"):
                assert values.dtype.kind == "i"
            elif not key.endswith("_rois"):
                assert values.shape == (N_VERTICES,)
                assert values.dtype == np.float32


def test_the_regions_have_the_cards_names_and_sizes(demo):
    for hemi in HEMIS:
        rois = demo.metadata()["fmri"][f"{hemi}_fsaverage_rois"]
        sizes = {name: len(vertices) for name, vertices in rois.items()}
        assert sizes == {name: size[hemi] for name, size in REAL_CARD.rois.items()}
        assert all(vertices.dtype.kind == "i" for vertices in rois.values())


@pytest.mark.parametrize(("hemi", "roi"), [("lh", "V1v"), ("rh", "PPA"), ("lh", "nsdgeneral")])
def test_regions_are_contiguous(demo, hemi, roi):
    vertices = demo.metadata()["fmri"][f"{hemi}_fsaverage_rois"][roi]
    mesh = neighbours()
    edges = csr_array((np.ones(len(mesh.indices)), mesh.indices, mesh.indptr))
    assert connected_components(edges[vertices][:, vertices])[0] == 1


def test_the_accuracy_is_that_of_a_model_that_works(demo):
    metadata = demo.metadata()
    accuracy = metadata["encoding_models"]
    for hemi in HEMIS:
        inside = metadata["fmri"][f"{hemi}_fsaverage_rois"]["nsdgeneral"]
        explained = accuracy[f"{hemi}_explained_variance_nsdcore"][inside]
        assert 50 < np.nanmedian(explained) < 100
        for data in ("nsdcore", "nsdsynthetic"):
            ceiling = accuracy[f"{hemi}_noise_ceiling_{data}"]
            assert np.nanmin(ceiling) >= 0
            assert np.nanmax(ceiling) < 1
            assert np.nanmedian(ceiling[inside]) > np.nanmedian(ceiling)
            without = ceiling == 0
            assert without.any()
            # Undefined, not perfect.
            assert np.isnan(accuracy[f"{hemi}_explained_variance_{data}"][without]).all()


def test_numpy_and_scikit_learn_alone_get_our_responses_from_the_weights(demo):
    photographs, _ = photograph_crops()
    model = BERG(demo.berg_dir).get_encoding_model(MODEL_ID, "cpu", {"roi": "V1v"}, subject=1)
    ours = model.generate_response(photographs, show_progress=False)

    parts = np.load(demo.weights_npy, allow_pickle=True).item()
    scaler, pca = StandardScaler(), PCA()
    vars(scaler).update(parts["scaler_param"])
    vars(pca).update(parts["pca_param"])
    with torch.inference_mode():
        layers = alexnet.load_alexnet()(stimuli.preprocess(torch.from_numpy(photographs)))
    features = alexnet.flatten_features(layers).double().numpy()
    scores = pca.transform(scaler.transform(features))
    for hemi, found in zip(HEMIS, ours, strict=True):
        regression = LinearRegression()
        vars(regression).update(parts[f"{hemi}_reg_param"])
        expected = regression.predict(scores)[:, getattr(model, f"{hemi}_vertices")]
        # Float32 rounding of sums of 205,672 terms.
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_loading_a_region_leaves_the_other_coefficients_on_disk(demo):
    rois = demo.metadata()["fmri"]
    rows = {f"{hemi}_rows": rois[f"{hemi}_fsaverage_rois"]["V1v"] for hemi in HEMIS}
    tracemalloc.start()
    try:
        weights = load_npy(demo.weights_npy, **rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    all_coefficients = 2 * N_VERTICES * REAL_CARD.n_components * 4
    assert len(weights.lh_coef) == REAL_CARD.rois["V1v"]["lh"]
    assert peak - weights.projection.nbytes < all_coefficients / 10


# --- the README


def test_the_readmes_examples_run_and_print_what_it_says(demo, tmp_path, monkeypatch, capsys):
    code = "\n".join(blocks(section("README.md"), "python"))
    assert '"path/to/brain-encoding-response-generator"' in code
    monkeypatch.chdir(tmp_path)
    exec(code.replace("path/to/brain-encoding-response-generator", str(demo.berg_dir)), {})
    assert capsys.readouterr().out.splitlines() == outputs(code)
    with Image.open(tmp_path / "mean.png") as picture:
        assert picture.width > 1000


# --- the guide to many images


def test_the_guides_examples_run_and_print_what_it_says(demo, tmp_path, monkeypatch, capsys):
    code = "\n".join(blocks(section("docs/many-images.md"), "python"))
    assert '"path/to/brain-encoding-response-generator"' in code
    monkeypatch.chdir(tmp_path)
    exec(code.replace("path/to/brain-encoding-response-generator", str(demo.berg_dir)), {})
    assert capsys.readouterr().out.splitlines() == outputs(code)
    assert (tmp_path / "ppa.png").stat().st_size > 10_000
    assert len(list(tmp_path.glob("maps/*.gii"))) == 2
    assert len(list(tmp_path.glob("maps/*.mgh"))) == 4
    with xarray.open_zarr(tmp_path / "responses.zarr", consolidated=False) as stored:
        assert dict(stored.response.sizes) == {"image": 40, "vertex": 20484}


# --- the guide to neural control


def test_the_guide_to_gradients_runs_and_prints_what_it_says(demo, capsys):
    (code,) = blocks(section("docs/neural-control.md"), "python")
    assert '"path/to/brain-encoding-response-generator"' in code
    exec(code.replace("path/to/brain-encoding-response-generator", str(demo.berg_dir)), {})
    assert capsys.readouterr().out.splitlines() == outputs(code)


@pytest.mark.parametrize("side", [256, 300])
def test_the_torch_module_agrees_with_encode_on_the_whole_surface(demo, side):
    photographs = photograph_crops()[0][:2, :, :side, :side]
    model = BERG(demo.berg_dir).get_encoding_model(MODEL_ID, "cpu", subject=1)
    with torch.no_grad():
        found = model.as_torch()(torch.from_numpy(photographs).float() / 255)
    expected = model.generate_response(photographs, show_progress=False)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-4)


def test_the_example_of_neural_control_draws_the_cortex(demo, tmp_path, capsys):
    out = tmp_path / "control.png"
    options = ["--berg-dir", str(demo.berg_dir), "--steps", "5", "--out", str(out)]
    neural_control.main([*options, "--up", "FFA-1", "--down", "PPA"])
    assert "FFA-1 up, PPA down" in capsys.readouterr().out
    with Image.open(out) as picture:
        assert picture.height > 1500  # with brains under the images


# --- the guide to reports


def test_the_guide_to_reports_runs_and_prints_what_it_says(demo, tmp_path, monkeypatch, capsys):
    (code,) = blocks(section("docs/report.md"), "python")
    assert '"path/to/brain-encoding-response-generator"' in code
    monkeypatch.chdir(tmp_path)
    exec(code.replace("path/to/brain-encoding-response-generator", str(demo.berg_dir)), {})
    assert capsys.readouterr().out.splitlines() == outputs(code)
    assert "SIMULATED" in (tmp_path / "noise.html").read_text(encoding="utf-8")
