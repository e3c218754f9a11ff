"""The API of the card, and every row of what users of the existing toolkit trip over."""

import gc
import json
import os
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

import berg
from berg import BERG, alexnet, stimuli
from berg.errors import (
    BERGError,
    BERGWarning,
    FileFormatError,
    InvalidParameterError,
    MetadataNotFoundError,
    ModelLoadError,
    ModelNotFoundError,
    ResourceError,
    StimulusError,
    UnsafePickleError,
    WeightsNotFoundError,
)
from berg.model_set import EncodingModels
from conftest import MODEL_ID, N_COMPONENTS, N_VERTICES, tiny_card

# Responses from another form or another batching differ by float32 rounding of sums of
# 205,672 terms.
CLOSE = {"rtol": 0, "atol": 1e-4}


def load(tiny, selection=None, **options):
    return BERG(tiny.berg_dir).get_encoding_model(
        MODEL_ID, "cpu", selection, **({"subject": 1} | options)
    )


def mask(*vertices):
    vector = np.zeros(N_VERTICES, int)
    vector[list(vertices)] = 1
    return vector


def reference(tiny, images):
    """The pipeline of the card, with scikit-learn's own objects."""
    scaler, pca, lh, rh = (
        _filled(estimator, parts)
        for estimator, parts in (
            (StandardScaler(), tiny.scaler),
            (PCA(N_COMPONENTS), tiny.pca),
            (LinearRegression(), tiny.lh),
            (LinearRegression(), tiny.rh),
        )
    )
    with torch.inference_mode():
        layers = alexnet.load_alexnet()(stimuli.preprocess(torch.from_numpy(images)))
    scores = pca.transform(scaler.transform(alexnet.flatten_features(layers).double().numpy()))
    return lh.predict(scores), rh.predict(scores)


def _filled(estimator, parts):
    for name, value in vars(parts).items():
        setattr(estimator, name, value)
    return estimator


# --- the card's example


def test_the_cards_example(tiny):
    berg = BERG(berg_dir=str(tiny.berg_dir))
    model = berg.get_encoding_model(MODEL_ID, subject=1)
    stimulus = np.random.randint(0, 255, (3, 3, 256, 256))
    lh, rh = berg.encode(model, stimulus, show_progress=True)
    assert lh.shape == rh.shape == (3, N_VERTICES)
    assert lh.dtype == rh.dtype == np.float32
    responses, metadata = berg.encode(model, stimulus, return_metadata=True)
    np.testing.assert_array_equal(responses[0], lh)
    assert set(metadata) >= {"fmri", "encoding_models"}
    again = berg.get_model_metadata(MODEL_ID, subject=1)
    np.testing.assert_array_equal(again["fmri"]["lh_ncsnr"], metadata["fmri"]["lh_ncsnr"])


def test_responses_are_those_of_the_scikit_learn_pipeline(tiny, images):
    for ours, theirs in zip(
        load(tiny).generate_response(images), reference(tiny, images), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, **CLOSE)
        assert np.std(theirs) > 0.1  # the tolerance is small beside the responses


def test_upstreams_positional_order(tiny, images):
    model = BERG(tiny.berg_dir).get_encoding_model(MODEL_ID, "cpu", {"roi": "V1v"}, subject=1)
    assert model.generate_response(images)[0].shape == (3, 3)


# --- selection


def test_selecting_before_or_after_encoding_agrees(tiny, images):
    lh, rh = load(tiny).generate_response(images)
    for selection in ({"roi": ["V1d", "V1v"]}, {"lh_vertices": mask(8, 2), "rh_vertices": mask(0)}):
        model = load(tiny, selection)
        part = model.generate_response(images)
        np.testing.assert_allclose(part[0], lh[:, model.lh_vertices], **CLOSE)
        np.testing.assert_allclose(part[1], rh[:, model.rh_vertices], **CLOSE)


def test_a_union_has_sorted_vertices_each_once(tiny):
    model = load(tiny, {"roi": ["V1d", "V1v"]})
    assert model.lh_vertices.tolist() == [1, 2, 3, 5]
    assert model.rh_vertices.tolist() == [0, 4, 11]
    assert model.rois == ("V1d", "V1v")


def test_a_hemisphere_can_be_left_out(tiny, images):
    lh, rh = load(tiny, {"lh_vertices": mask(), "rh_vertices": mask(3)}).generate_response(images)
    assert lh.shape == (3, 0)
    assert rh.shape == (3, 1)


def test_an_empty_roi_warns_and_gives_no_columns(tiny, images):
    with pytest.warns(BERGWarning, match="FFA-2 is empty in the left hemisphere of subject 1"):
        model = load(tiny, {"roi": "FFA-2"})
    assert model.generate_response(images)[0].shape == (3, 0)


def test_roi_overrides_vectors_with_a_warning(tiny):
    with pytest.warns(BERGWarning, match="roi decides"):
        model = load(tiny, {"roi": "V1v", "rh_vertices": mask(7)})
    assert model.rh_vertices.tolist() == [0, 11]


# --- stimuli


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, ">i2"])
def test_any_integer_dtype_is_encoded_as_uint8_is(tiny, images, dtype):
    model = load(tiny)
    for ours, expected in zip(
        model.generate_response(images.astype(dtype)), model.generate_response(images), strict=True
    ):
        np.testing.assert_array_equal(ours, expected)
    assert np.ptp(expected, axis=0).max() > 0.01  # the images differ


def test_negative_strides_are_encoded(tiny, images):
    model = load(tiny)
    np.testing.assert_allclose(
        model.generate_response(images[::-1])[0], model.generate_response(images)[0][::-1], **CLOSE
    )


def test_no_images_give_no_rows(tiny):
    lh, rh = load(tiny, {"roi": "V1v"}).generate_response(np.zeros((0, 3, 256, 256), np.uint8))
    assert lh.shape == (0, 3)
    assert rh.shape == (0, 2)
    assert lh.dtype == rh.dtype == np.float32


def test_floats_are_refused(tiny, images):
    with pytest.raises(StimulusError, match="float32") as caught:
        load(tiny).generate_response(images.astype(np.float32))
    assert isinstance(caught.value, TypeError)


def test_small_images_warn_once(tiny, rng):
    model = load(tiny)
    small = rng.integers(0, 256, (2, 3, 100, 100), dtype=np.uint8)
    with pytest.warns(BERGWarning, match="100×100") as caught:
        assert model.generate_response(small)[0].shape == (2, N_VERTICES)
    assert len(caught) == 1


def test_batches_do_not_matter(tiny, images, monkeypatch):
    model = load(tiny)
    whole = model.generate_response(np.concatenate([images] * 3))
    monkeypatch.setattr("berg.encoding.BATCH_SIZE", 2)
    parts = model.generate_response(np.concatenate([images] * 3))
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, **CLOSE)
        np.testing.assert_allclose(one[:3], one[6:], **CLOSE)


# --- the caller's state


def test_nothing_global_is_touched(tiny, images):
    torch.manual_seed(1)
    np.random.seed(1)
    torch.set_float32_matmul_precision("medium")
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    flags = [torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark]
    settings = [torch.get_num_threads(), torch.get_float32_matmul_precision()]
    load(tiny).generate_response(images)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    assert [torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark] == flags
    assert [torch.get_num_threads(), torch.get_float32_matmul_precision()] == settings
    torch.set_float32_matmul_precision("highest")
    assert torch.is_grad_enabled()


def test_the_stimulus_is_not_changed(tiny, images):
    before = images.copy()
    load(tiny).generate_response(images)
    np.testing.assert_array_equal(images, before)


def test_memory_is_bounded_by_one_batch(tiny, images, monkeypatch):
    model = load(tiny)
    seen = []
    as_uint8 = stimuli.as_uint8
    monkeypatch.setattr("berg.encoding.BATCH_SIZE", 2)
    monkeypatch.setattr(stimuli, "as_uint8", lambda part: seen.append(len(part)) or as_uint8(part))
    model.generate_response(np.concatenate([images] * 2)[:5].astype(np.int64))
    assert seen == [2, 2, 1]


def test_warnings_point_at_the_users_line(tiny, rng):
    model = load(tiny)
    small = rng.integers(0, 256, (1, 3, 100, 100), dtype=np.uint8)
    with pytest.warns(BERGWarning) as caught:
        BERG(tiny.berg_dir).encode(model, small)
    assert caught[0].filename == __file__


def test_vertices_of_the_columns_cannot_be_changed(tiny):
    with pytest.raises(ValueError, match="read-only"):
        load(tiny).lh_vertices[0] = 3


# --- life of a model


def test_context_manager_and_cleanup_free_the_weights(tiny, images):
    with load(tiny) as model:
        assert model.generate_response(images)[0].shape == (3, N_VERTICES)
        assert isinstance(model, berg.BaseModelInterface)
        held = [weakref.ref(part) for part in vars(model._loaded).values()]
    gc.collect()
    assert [part() for part in held] == [None, None, None]
    with pytest.raises(ModelLoadError, match="cleaned up"):
        model.generate_response(images)
    model.cleanup()
    assert "cleaned up" in repr(model)
    assert model.get_model_id() == MODEL_ID


def test_describe_prints_the_card_and_returns_it(tiny, capsys):
    for describe in (lambda: BERG().describe(MODEL_ID), load(tiny).describe):
        assert describe()["model_id"] == MODEL_ID
        assert MODEL_ID in capsys.readouterr().out


def test_catalog(tiny, capsys):
    catalog = BERG().get_model_catalog()
    assert catalog == {"fMRI": ["Natural Scenes Dataset (NSD) (fsaverage surface space)"]}
    assert not capsys.readouterr().out
    BERG().get_model_catalog(print_format=True)
    assert "Natural Scenes" in capsys.readouterr().out
    assert BERG().list_models() == [MODEL_ID]


def test_provenance_traces_a_response(tiny):
    provenance = load(tiny, {"roi": "V1v"}).provenance()
    assert provenance["rois"] == ["V1v"]
    assert provenance["network_sha256"] == alexnet.FINGERPRINT
    assert len(provenance["weights_sha256"]) == 64
    assert provenance["simulated"] is False
    assert provenance["precision"] == "float32"
    assert "Fourier" in provenance["engine"]


def test_the_precision_of_the_network_is_an_option(tiny, images):
    full, half = load(tiny), load(tiny, precision="bfloat16")
    assert (full.precision, half.precision) == ("float32", "bfloat16")
    assert "Fourier transforms in bfloat16" in half.provenance()["engine"]
    pairs = zip(half.generate_response(images), full.generate_response(images), strict=True)
    for found, expected in pairs:
        assert found.dtype == np.float32
        differences = np.abs(found - expected)
        # 8 bits of mantissa, in features of which each is one of 205,672
        assert 0 < differences.max() < 0.1 * expected.std()
    with pytest.raises(InvalidParameterError, match="too coarse for gradients"):
        half.as_torch()
    with pytest.raises(InvalidParameterError, match=r"cpu in bfloat16, cpu in float32"):
        EncodingModels([full, half])


# --- berg_dir


def test_default_directory_and_its_override(monkeypatch, tmp_path):
    monkeypatch.setenv("BERG_DIR", str(tmp_path / "mine"))
    assert BERG().berg_dir == tmp_path / "mine"
    monkeypatch.delenv("BERG_DIR")
    assert "berg" in str(BERG().berg_dir)
    with pytest.raises(TypeError, match="berg_dir is not a path"):
        BERG(3)


def test_each_missing_part_is_said_with_the_way_to_get_it(tiny):
    shutil.copytree(tiny.berg_dir, tiny.berg_dir.with_name("copy"))
    tiny.weights_npy.with_name(".weights_subject-01.safetensors.lock").touch()  # none's business
    with pytest.raises(WeightsNotFoundError, match=r"has weights_subject-01\.npy\n") as caught:
        load(tiny, subject=2)
    command = f"berg download {MODEL_ID} --subject 2 --berg-dir {tiny.berg_dir}"
    assert f"do:       {command}\n" in str(caught.value)
    assert isinstance(caught.value, FileNotFoundError)
    tiny.weights_npy.unlink()
    with pytest.raises(WeightsNotFoundError, match="has no files of any subject"):
        load(tiny)
    shutil.rmtree(tiny.weights_npy.parent)
    with pytest.raises(WeightsNotFoundError, match="has no folder encoding_models/modality-fmri"):
        load(tiny)
    shutil.rmtree(tiny.berg_dir)
    with pytest.raises(WeightsNotFoundError, match="does not exist"):
        load(tiny)
    tiny.berg_dir.write_text("a file")
    with pytest.raises(WeightsNotFoundError, match="is not a directory"):
        load(tiny)


def test_missing_metadata_raise_before_any_image_is_encoded(tiny, images, monkeypatch):
    model = load(tiny)
    tiny.metadata_npy.unlink()
    monkeypatch.setattr(model, "generate_response", lambda *a, **k: pytest.fail("was encoded"))
    with pytest.raises(MetadataNotFoundError, match="no metadata of subject 1") as caught:
        BERG(tiny.berg_dir).encode(model, images, return_metadata=True)
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, InvalidParameterError)
    with pytest.raises(MetadataNotFoundError):
        load(tiny, {"roi": "V1v"})


def test_the_whole_surface_needs_no_metadata(tiny, images):
    tiny.metadata_npy.unlink()
    model = load(tiny)
    assert model.generate_response(images)[0].shape == (3, N_VERTICES)
    assert model.provenance()["simulated"] is None


# --- the weights' two forms


def test_the_converted_form_gives_the_same_responses(tiny, images):
    from_npy = load(tiny).generate_response(images)
    path, written = BERG(tiny.berg_dir).convert_weights(MODEL_ID, subject=1)
    assert written
    assert path == tiny.weights_npy.with_suffix(".safetensors")
    converted = load(tiny).generate_response(images)
    part = load(tiny, {"roi": "V1v"}).generate_response(images)
    for one, other, some, rows in zip(from_npy, converted, part, ([1, 2, 3], [0, 11]), strict=True):
        np.testing.assert_allclose(one, other, **CLOSE)
        np.testing.assert_allclose(one[:, rows], some, **CLOSE)
    fingerprint = load(tiny).provenance()["weights_sha256"]
    tiny.weights_npy.unlink()
    assert load(tiny).provenance()["weights_sha256"] == fingerprint


def test_converting_again_needs_force(tiny):
    berg = BERG(tiny.berg_dir)
    path, _ = berg.convert_weights(MODEL_ID, subject=1)
    before = path.stat().st_mtime_ns
    assert berg.convert_weights(MODEL_ID, subject=1) == (path, False)
    assert path.stat().st_mtime_ns == before
    assert berg.convert_weights(MODEL_ID, subject=1, force=True)[1]
    assert path.stat().st_mtime_ns > before
    tiny.weights_npy.unlink()
    with pytest.raises(WeightsNotFoundError):
        berg.convert_weights(MODEL_ID, subject=1, force=True)


def test_faults_of_the_weights_are_told_apart(tiny):
    whole = tiny.weights_npy.read_bytes()
    tiny.weights_npy.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FileFormatError, match="truncated"):
        load(tiny)
    shutil.copy(tiny.metadata_npy, tiny.weights_npy)
    with pytest.raises(FileFormatError, match="does not hold this model's weights"):
        load(tiny)
    np.save(tiny.weights_npy, {"scaler_param": _Bomb(tiny.berg_dir / "ran")}, allow_pickle=True)
    with pytest.raises(UnsafePickleError, match=r"posix\.mkdir|nt\.mkdir"):
        load(tiny)
    assert not (tiny.berg_dir / "ran").exists()


def test_weights_that_give_nan_are_refused(tiny, images):
    path, _ = BERG(tiny.berg_dir).convert_weights(MODEL_ID, subject=1)
    tiny.weights_npy.unlink()
    content = bytearray(path.read_bytes())
    header = int.from_bytes(content[:8], "little") + 8
    start, stop = json.loads(content[8:header])["projection"]["data_offsets"]
    content[header + start : header + stop] = np.full((stop - start) // 4, np.nan, "<f4").tobytes()
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match="not finite"):
        load(tiny).generate_response(images)


def test_damaged_metadata_do_not_stop_a_whole_surface(tiny, images):
    BERG(tiny.berg_dir).convert_weights(MODEL_ID, subject=1)
    tiny.metadata_npy.write_bytes(b"damaged")
    model = load(tiny)
    assert model.generate_response(images)[0].shape == (3, N_VERTICES)
    assert model.provenance()["simulated"] is False  # as the converted file says


class _Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


# --- parameters


def test_wrong_parameters_are_refused_before_anything_is_loaded(tiny, images):
    berg = BERG(tiny.berg_dir)
    for error, message, arguments in (
        (ModelNotFoundError, "no model 'nsd'", ("nsd", "cpu", None, 1)),
        (InvalidParameterError, "no subject 9", (MODEL_ID, "cpu", None, 9)),
        (InvalidParameterError, "no device 'tpu'", (MODEL_ID, "tpu", None, 1)),
        (InvalidParameterError, "no key", (MODEL_ID, "cpu", {"rois": "V1v"}, 1)),
        (InvalidParameterError, "no ROI", (MODEL_ID, "cpu", {"roi": "V9"}, 1)),
    ):
        model_id, device, selection, subject = arguments
        with pytest.raises(error, match=message) as caught:
            berg.get_encoding_model(model_id, device, selection, subject=subject)
        assert isinstance(caught.value, BERGError)
        assert isinstance(caught.value, ValueError)
    with pytest.raises(TypeError, match="not an encoding model"):
        berg.encode("model", images)


def test_an_absent_device_is_said(tiny, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match="no usable CUDA"):
        BERG(tiny.berg_dir).get_encoding_model(MODEL_ID, "cuda", subject=1)


def test_the_tiny_card_is_the_real_one_but_for_its_sizes():
    assert tiny_card().n_features == 205_672
