"""Model building on a small simulated dataset: the numbers, the files, what is refused."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from benchmarks.literal_building import Literal, build
from scipy import stats

from berg import BERG, catalog, resources
from berg.downloads.manifest import Record, load_manifest, record
from berg.errors import (
    BERGWarning,
    FileFormatError,
    InvalidParameterError,
    NSDFilesNotFoundError,
    ResourceError,
    WeightsNotFoundError,
)
from berg.layout import NSDFiles
from berg.metadata import load_metadata, save_metadata
from berg.nsd.betas import open_betas
from berg.nsd.design import read_design
from berg.nsd.images import CoreImages
from berg.scoring import score_responses
from berg.simulation.nsd_tree import load_truth, simulate_nsd
from berg.stimuli import resize_and_crop
from berg.training import checks, evaluate, plan, train
from berg.training.feature_store import FeatureStore
from conftest import MODEL_ID, REAL_CARD

HEMIS = ("lh", "rh")
N_SESSIONS = 2
N_VERTICES = 642  # level 3
# The card's 250 take the literal pipeline's exact PCA a minute.
CARD = replace(REAL_CARD, n_components=20)


@dataclass(frozen=True)
class Trained:
    nsd_dir: Path
    berg_dir: Path

    @property
    def files(self):
        return CARD.files(self.berg_dir)

    @property
    def nsd(self) -> NSDFiles:
        return NSDFiles(self.nsd_dir)

    def metadata(self, subject: int = 1):
        return BERG(self.berg_dir).get_model_metadata(MODEL_ID, subject)


pytestmark = pytest.mark.filterwarnings("ignore:subject . has only .. test images")


@pytest.fixture(scope="module", autouse=True)
def _few_components():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "load_cards", lambda: {MODEL_ID: CARD})
        yield


@pytest.fixture(scope="module")
def nsd_dir(tmp_path_factory, cache_dir) -> Path:
    """Two subjects of 642 vertices a hemisphere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERG_CACHE_DIR", str(cache_dir))
        return simulate_nsd(
            tmp_path_factory.mktemp("nsd") / "nsd",
            (1, 2),
            n_sessions=N_SESSIONS,
            n_train=60,
            n_test=30,
            n_val=20,
            level=3,
            show_progress=False,
        )


@pytest.fixture(scope="module")
def trained(nsd_dir, tmp_path_factory, cache_dir) -> Trained:
    """Subject 1, trained and tested; not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BERG_CACHE_DIR", str(cache_dir))
        berg_dir = tmp_path_factory.mktemp("berg")
        train(nsd_dir, [1], berg_dir=berg_dir, device="cpu", show_progress=False)
        evaluate(nsd_dir, [1], berg_dir=berg_dir, device="cpu", show_progress=False)
    return Trained(nsd_dir, berg_dir)


@pytest.fixture(scope="module")
def literal(nsd_dir, tmp_path_factory) -> Literal:
    """The pipeline that follows the card word for word, in float64 with an exact PCA."""
    out = tmp_path_factory.mktemp("literal")
    return build(nsd_dir, 1, out, n_components=20, svd_solver="full", dtype=np.float64)


@pytest.fixture
def own_copy(trained, tmp_path) -> Trained:
    """Dataset and berg_dir that a test may change."""
    shutil.copytree(trained.nsd_dir, tmp_path / "nsd")
    shutil.copytree(trained.berg_dir, tmp_path / "berg")
    return Trained(tmp_path / "nsd", tmp_path / "berg")


def quietly(work, nsd_dir, berg_dir, subjects=(1,), **more):
    return work(nsd_dir, subjects, berg_dir=berg_dir, device="cpu", show_progress=False, **more)


# --- the numbers


def test_predictions_agree_with_the_literal_pipeline(trained, literal):
    for hemi in HEMIS:
        for images in ("test", "nsdsynthetic"):
            ours = np.load(trained.files.predictions(1, hemi, images))
            # Ours comes from float32 features and products: 1e-3 z, as between float32 and
            # float64 of the literal pipeline itself.
            np.testing.assert_allclose(ours, literal.predictions[images][hemi], atol=1e-3)


def test_maps_agree_with_the_literal_pipeline(trained, literal):
    metadata = trained.metadata()
    maps = metadata["fmri"] | metadata["encoding_models"]
    compared = [name for name in literal.maps if name in maps]
    assert len(compared) == 4 + 16
    for name in compared:
        theirs = literal.maps[name]
        assert np.array_equal(np.isnan(maps[name]), np.isnan(theirs)), name
        if "explained_variance" in name:
            ceiling = literal.maps[name.replace("explained_variance", "noise_ceiling")]
            meaningful = ceiling >= 0.1  # elsewhere it divides by next to nothing
            ours, theirs = maps[name][meaningful] / 100, theirs[meaningful] / 100
        else:
            ours = maps[name]
        np.testing.assert_allclose(ours, theirs, atol=1e-3, err_msg=name)


def test_partitions_and_regions_are_those_of_the_literal_pipeline(trained, literal):
    metadata = trained.metadata()
    for name in ("train", "val", "test"):
        ids = metadata["encoding_models"][f"{name}_img_num"]
        np.testing.assert_array_equal(ids, literal.partitions[name])
        assert ids.dtype.kind == "i"
    for hemi in HEMIS:
        ours = metadata["fmri"][f"{hemi}_fsaverage_rois"]
        assert list(ours) == list(CARD.rois)
        for roi, vertices in literal.rois[hemi].items():
            np.testing.assert_array_equal(np.sort(ours[roi]), np.sort(vertices))


def test_the_model_loads_and_gives_the_predictions_that_were_stored(trained):
    model = BERG(trained.berg_dir).get_encoding_model(MODEL_ID, "cpu", subject=1)
    with CoreImages(trained.nsd) as images:
        test = images.read(trained.metadata()["encoding_models"]["test_img_num"])
    with pytest.warns(UserWarning, match="128×128"):  # the small dataset's images
        responses = model.generate_response(test, show_progress=False)
    for hemi, ours in zip(HEMIS, responses, strict=True):
        stored = np.load(trained.files.predictions(1, hemi, "test"))
        np.testing.assert_allclose(ours, stored, atol=1e-4)  # the folded model is in float32


def test_the_truth_is_found(trained):
    """The noise ceilings are the true ones, and predictions follow the true signal."""
    truth, metadata = load_truth(trained.nsd_dir, 1), trained.metadata()
    for hemi in HEMIS:
        found = metadata["fmri"][f"{hemi}_ncsnr_nsdsynthetic"]
        known = np.isfinite(found) & (truth.ncsnr[hemi] > 0.3)
        # 284 images, most seen twice: estimates scatter by some 10 %.
        ratio = found[known] / truth.ncsnr_synthetic[hemi][known]
        assert 0.8 < np.median(ratio) < 1.2
        predicted = np.load(trained.files.predictions(1, hemi, "test"))
        signal = truth.signal(hemi, "test")
        scores = score_responses(signal, predicted, ncsnr=truth.ncsnr[hemi], repeats=3)
        assert np.nanmedian(scores.correlation[truth.ncsnr[hemi] > 0.3]) > 0.3


def test_metadata_have_every_key_of_the_card(trained, tiny_metadata):
    metadata = trained.metadata()
    for part, entries in tiny_metadata.items():
        for key, example in entries.items():
            ours = metadata[part][key]
            if isinstance(example, np.ndarray) and example.dtype.kind == "f":
                assert ours.dtype == np.float32
                assert ours.shape == (N_VERTICES,)
    assert metadata["provenance"]["simulated"] is True
    assert metadata["provenance"]["n_sessions"] == N_SESSIONS


def test_missing_trials_are_counted(trained):
    fmri, nsd = trained.metadata()["fmri"], trained.nsd
    for hemi in HEMIS:
        expected = 0
        for session in range(1, N_SESSIONS + 1):
            with nsd.betas(1, hemi, session).open("rb") as file:
                trials = np.asarray(nib.MGHImage.from_stream(file).dataobj)[:, 0, 0]
            missing = np.isnan(trials)
            missing |= (trials == trials[:, :1]).all(axis=1, keepdims=True)
            expected = expected + missing.sum(axis=1)
        assert expected.any()
        np.testing.assert_array_equal(fmri[f"{hemi}_n_missing_nsdcore"], expected)


def test_ridge_chooses_the_penalties_that_predict_validation_images_best(own_copy, trained):
    quietly(train, own_copy.nsd_dir, own_copy.berg_dir, ridge=True, overwrite=True)
    quietly(evaluate, own_copy.nsd_dir, own_copy.berg_dir)
    plain, ridge = trained.metadata()["encoding_models"], own_copy.metadata()["encoding_models"]
    for hemi in HEMIS:
        assert np.unique(ridge[f"{hemi}_ridge_penalty"]).size > 1
        assert f"{hemi}_ridge_penalty" not in plain
    # Each vertex has the penalty with which the validation images are predicted best.
    val = {}
    with CoreImages(trained.nsd) as images:
        pixels = torch.from_numpy(images.read(plain["val_img_num"]))
    for name, berg_dir in (("plain", trained.berg_dir), ("ridge", own_copy.berg_dir)):
        model = BERG(berg_dir).get_encoding_model(MODEL_ID, "cpu", subject=1)
        batch = resize_and_crop(pixels)
        val[name] = model.encode_prepared([batch], len(batch), show_progress=False)[0]
    complete = own_copy.metadata()["fmri"]["lh_n_missing_nsdcore"] == 0
    measured = average_of_images(trained, plain["val_img_num"], "lh", complete)
    errors = {
        name: ((measured - predicted[:, complete]) ** 2).mean(axis=0)
        for name, predicted in val.items()
    }
    assert (errors["ridge"] <= errors["plain"] + 1e-5).all()
    assert errors["ridge"].mean() < errors["plain"].mean()


def average_of_images(trained: Trained, ids, hemi: str, vertices):
    """Mean responses of images at vertices that miss no trial, in float64."""
    shown = read_design(trained.nsd).trial_images(1, N_SESSIONS)
    sessions = (
        open_betas(trained.nsd.betas(1, hemi, session)).read()[:, vertices].astype(np.float64)
        for session in range(1, N_SESSIONS + 1)
    )
    trials = np.concatenate([stats.zscore(session) for session in sessions])
    return np.stack([trials[shown == image].mean(axis=0) for image in ids])


def test_part_of_the_sessions_is_used_only_if_asked_for(nsd_dir, tmp_path):
    with pytest.warns(BERGWarning, match="only 4 test images in 1 session"):
        quietly(train, nsd_dir, tmp_path, n_sessions=1)
    part = Trained(nsd_dir, tmp_path)
    assert part.metadata()["provenance"]["n_sessions"] == 1
    shown = read_design(part.nsd).trial_images(1, 1)
    images = part.metadata()["encoding_models"]
    used = np.concatenate([images[f"{name}_img_num"] for name in ("train", "val", "test")])
    np.testing.assert_array_equal(np.sort(used), np.unique(shown))


# --- files that are kept, and given back


def test_scratch_is_given_back_and_a_second_call_does_nothing(trained):
    folder = trained.files.prepared / "subject-01"
    assert not (folder / "features").exists()
    assert not (folder / "components").exists()
    before = snapshot(trained.berg_dir)
    (done,) = quietly(train, trained.nsd_dir, trained.berg_dir)
    assert done.seconds == {}
    assert snapshot(trained.berg_dir) == before


def test_subjects_share_the_features_of_shared_images(nsd_dir, tmp_path, monkeypatch):
    computed = []
    create = FeatureStore.create

    def count(path, *sizes):
        computed.append(path.name)
        return create(path, *sizes)

    monkeypatch.setattr(FeatureStore, "create", count)
    quietly(train, nsd_dir, tmp_path, [1, 2])
    own = ["colour.features", "train.features"]
    assert computed == ["core.features", "synthetic.features", *own, *own]


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


# --- what is refused


def test_another_model_is_not_replaced_unasked(own_copy):
    before = snapshot(own_copy.berg_dir / "encoding_models")
    with pytest.raises(InvalidParameterError, match=r"(?s)there is a model.*--overwrite"):
        quietly(train, own_copy.nsd_dir, own_copy.berg_dir, ridge=True)
    assert snapshot(own_copy.berg_dir / "encoding_models") == before


def test_converted_weights_alone_are_a_model_too(trained, tmp_path):
    path = CARD.files(tmp_path).weights_safetensors(1)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"weights of someone")
    with pytest.raises(InvalidParameterError, match=path.name):
        quietly(train, trained.nsd_dir, tmp_path)
    assert path.read_bytes() == b"weights of someone"


def test_a_replacement_that_was_interrupted_does_not_pass_as_the_older_model(own_copy, monkeypatch):
    class Stopped(BaseException):
        pass

    def put_weights_only(files):
        weights, final = next(iter(files.items()))
        shutil.copy(weights, final)
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr("berg.training.publish.put_in_place", put_weights_only)
        with pytest.raises(Stopped):
            quietly(train, own_copy.nsd_dir, own_copy.berg_dir, ridge=True, overwrite=True)
    with pytest.raises(InvalidParameterError, match="weights and metadata"):
        quietly(evaluate, own_copy.nsd_dir, own_copy.berg_dir)
    with pytest.raises(InvalidParameterError, match="--overwrite"):
        quietly(train, own_copy.nsd_dir, own_copy.berg_dir)
    quietly(train, own_copy.nsd_dir, own_copy.berg_dir, ridge=True, overwrite=True)
    assert "lh_ridge_penalty" in own_copy.metadata()["encoding_models"]


def test_a_berg_dir_may_be_moved(own_copy, tmp_path, trained, monkeypatch):
    shutil.copytree(trained.berg_dir, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    (done,) = quietly(train, trained.nsd_dir, "moved")
    assert done.seconds == {}


def change_metadata(trained: Trained, change) -> None:
    metadata = load_metadata(trained.files.metadata(1))
    change(metadata)
    save_metadata(trained.files.metadata(1), metadata)


def test_metadata_of_a_download_are_not_changed_unasked(own_copy):
    """With --overwrite their accuracy is replaced; what the model was trained on is kept."""

    def as_downloaded(metadata):
        metadata["provenance"] = {"simulated": True}  # or its small size is refused
        metadata["encoding_models"]["train_img_num"] = np.arange(5000, 5003)

    change_metadata(own_copy, as_downloaded)
    files = own_copy.files
    for path in (files.weights_npy(1), files.metadata(1)):
        record(files.root, path, Record(1, "sha256", "etag", "s3://", "https://", "now", "0.1.0"))
    with pytest.raises(InvalidParameterError, match="--overwrite"):
        quietly(evaluate, own_copy.nsd_dir, own_copy.berg_dir)
    assert len(load_manifest(files.root)) == 2
    quietly(evaluate, own_copy.nsd_dir, own_copy.berg_dir, overwrite=True)
    assert list(load_manifest(files.root)) == ["encoding_models_weights/weights_subject-01.npy"]
    metadata = own_copy.metadata()
    np.testing.assert_array_equal(metadata["encoding_models"]["train_img_num"], [5000, 5001, 5002])
    assert metadata["provenance"]["tested"]["simulated"] is True
    quietly(evaluate, own_copy.nsd_dir, own_copy.berg_dir)  # they are ours from here on


def test_weights_alone_can_be_tested(trained, tmp_path, monkeypatch):
    """As of a downloaded model: no metadata, nothing that training has prepared."""
    elsewhere = Trained(trained.nsd_dir, tmp_path)
    weights = elsewhere.files.weights_npy(1)
    weights.parent.mkdir(parents=True)
    shutil.copy(trained.files.weights_npy(1), weights)
    # Without metadata nothing tells of a small brain: the card's size is expected.
    card = replace(CARD, n_vertices=N_VERTICES)
    monkeypatch.setattr(catalog, "load_cards", lambda: {MODEL_ID: card})
    quietly(evaluate, trained.nsd_dir, tmp_path)
    ours, theirs = elsewhere.metadata(), trained.metadata()
    for key, values in theirs["encoding_models"].items():
        if key not in ("train_img_num", "val_img_num"):  # which nobody can know
            np.testing.assert_array_equal(ours["encoding_models"][key], values)
    assert "train_img_num" not in ours["encoding_models"]


@pytest.mark.parametrize(("name", "ridge"), [("train_img_num", False), ("val_img_num", True)])
def test_test_images_must_not_have_made_the_model(own_copy, name, ridge):
    def leak(metadata):
        images = metadata["encoding_models"]
        images[name] = np.append(images[name], images["test_img_num"][:3])
        if ridge:
            images["lh_ridge_penalty"] = np.ones(N_VERTICES, np.float32)

    change_metadata(own_copy, leak)
    with pytest.raises(InvalidParameterError, match=f"(?s)3 of 30 test images are in its {name}"):
        quietly(evaluate, own_copy.nsd_dir, own_copy.berg_dir)


def test_a_model_is_tested_on_the_sessions_that_it_was_trained_on(own_copy):
    with pytest.raises(InvalidParameterError, match=r"(?s)trained on other sessions.*first 2"):
        quietly(evaluate, own_copy.nsd_dir, own_copy.berg_dir, n_sessions=1)


def test_nothing_is_tested_where_one_subject_has_no_model(own_copy):
    before = snapshot(own_copy.berg_dir)
    with pytest.raises(WeightsNotFoundError, match="subject 2"):
        quietly(evaluate, own_copy.nsd_dir, own_copy.berg_dir, [1, 2])
    assert snapshot(own_copy.berg_dir) == before


def test_too_few_images_are_refused_before_any_work(nsd_dir, tmp_path, monkeypatch):
    card = replace(CARD, n_components=60)
    monkeypatch.setattr(catalog, "load_cards", lambda: {MODEL_ID: card})
    with pytest.raises(InvalidParameterError, match=r"(?s)too few training images.*61 or more"):
        quietly(train, nsd_dir, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_berg_dir_that_is_a_file_is_refused(nsd_dir, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match=r"(?s)cannot be written.*--berg-dir"):
        quietly(train, nsd_dir, tmp_path / "file" / "berg")


def test_all_that_is_missing_is_named_before_any_work(own_copy, tmp_path):
    own_copy.nsd.ncsnr(1, "rh").unlink()
    own_copy.nsd.synthetic_betas(1, "lh").unlink()
    with pytest.raises(NSDFilesNotFoundError) as caught:
        quietly(train, own_copy.nsd_dir, tmp_path / "new")
    for path in (own_copy.nsd.ncsnr(1, "rh"), own_copy.nsd.synthetic_betas(1, "lh")):
        assert own_copy.nsd.relative(path) in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_betas_that_are_cut_short_are_refused_before_any_work(own_copy, tmp_path):
    path = own_copy.nsd.betas(1, "lh", 2)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(FileFormatError, match=path.name):
        quietly(train, own_copy.nsd_dir, tmp_path / "new")
    assert not (tmp_path / "new").exists()


class NoMemory:
    available = 100 * 10**6


def test_too_little_memory_is_refused(nsd_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(plan.psutil, "virtual_memory", NoMemory)
    with pytest.raises(ResourceError, match=r"(?s)too little memory.*100.0 MB free"):
        quietly(train, nsd_dir, tmp_path)


def test_too_small_a_disk_is_refused(nsd_dir, tmp_path, monkeypatch):
    class Usage:
        free = 10**9

    monkeypatch.setattr(resources.shutil, "disk_usage", lambda path: Usage)
    with pytest.raises(ResourceError, match=r"(?s)too little space.*1.0 GB free"):
        quietly(train, nsd_dir, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_real_dataset_must_be_on_fsaverage(own_copy, tmp_path):
    shutil.rmtree(own_copy.nsd_dir / "simulation")
    with pytest.raises(FileFormatError, match=r"(?s)642 vertices.*163842"):
        quietly(train, own_copy.nsd_dir, tmp_path / "new")


@pytest.mark.parametrize("subject", [0, 9, "one"])
def test_no_such_subject(nsd_dir, tmp_path, subject):
    with pytest.raises(InvalidParameterError, match="subject"):
        quietly(train, nsd_dir, tmp_path, [subject])


def test_too_few_test_images_are_refused(nsd_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "_LEAST_TEST_IMAGES", 31)
    with pytest.raises(InvalidParameterError, match=r"(?s)too few test images.*31 or more"):
        quietly(train, nsd_dir, tmp_path)
    assert list(tmp_path.iterdir()) == []
