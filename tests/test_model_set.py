"""Several models on one network: each answers as it does alone."""

import shutil

import numpy as np
import pytest

from berg import BERG
from berg.errors import InvalidParameterError, InvalidParameterTypeError, WeightsNotFoundError
from berg.metadata import save_metadata
from berg.model_set import EncodingModels
from berg.stimuli import as_uint8, resize_and_crop
from berg.weights import RegressionParams, save_npy
from conftest import MODEL_ID, tiny_card


@pytest.fixture
def three_subjects(tiny, tiny_metadata):
    """Subjects 1 to 3: the third's components are others, and so are both regressions."""
    files = tiny_card().files(tiny.berg_dir)
    shutil.copy(files.weights_npy(1), files.weights_npy(2))
    other = [
        RegressionParams(-hemi.coef_, hemi.intercept_ + 1, hemi.n_features_in_)
        for hemi in (tiny.lh, tiny.rh)
    ]
    save_npy(files.weights_npy(3), tiny.scaler, tiny.pca, *other)
    for subject in (2, 3):
        save_metadata(files.metadata(subject), tiny_metadata)
    return BERG(tiny.berg_dir)


def test_each_model_answers_as_it_does_alone(three_subjects, images):
    models = three_subjects.get_encoding_models(MODEL_ID, [3, 1], "cpu", {"roi": "V1v"})
    assert models.subjects == (3, 1)
    together = three_subjects.encode(models, images, show_progress=False)
    for subject, pair in zip(models.subjects, together, strict=True):
        alone = three_subjects.get_encoding_model(
            MODEL_ID, "cpu", {"roi": "V1v"}, subject=subject
        ).generate_response(images, show_progress=False)
        for ours, expected in zip(pair, alone, strict=True):
            np.testing.assert_array_equal(ours, expected)


def test_the_network_runs_once(three_subjects, images, monkeypatch):
    models = three_subjects.get_encoding_models(MODEL_ID, [1, 2, 3], "cpu")
    runs = []
    network = type(models[0]._parts().network)
    forward = network.forward
    monkeypatch.setattr(network, "forward", lambda self, x: runs.append(len(x)) or forward(self, x))
    models.generate_response(images, show_progress=False)
    models.encode_lazily(images, show_progress=False)
    assert runs == [3, 3]


def test_several_selections_of_one_subject(three_subjects, images):
    parts = [
        three_subjects.get_encoding_model(MODEL_ID, "cpu", {"roi": roi}, subject=1)
        for roi in ("V1v", "V1d")
    ]
    shapes = [lh.shape for lh, _ in EncodingModels(parts).generate_response(images)]
    assert shapes == [(3, 3), (3, 2)]


def test_lazy_responses_are_the_computed_ones(three_subjects, images):
    models = three_subjects.get_encoding_models(MODEL_ID, [1, 3], "cpu")
    lazy = models.encode_lazily(images, names=["a", "b", "c"], show_progress=False)
    full = models.generate_response(images, show_progress=False)
    for responses, pair in zip(lazy, full, strict=True):
        assert list(responses.names) == ["a", "b", "c"]
        for ours, expected in zip(responses.compute(), pair, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


def test_scores_of_a_prepared_batch(three_subjects, images):
    models = three_subjects.get_projections(MODEL_ID, [1, 2], "cpu")
    assert [len(model.lh_vertices) for model in models] == [0, 0]
    first, second = models.scores(resize_and_crop(as_uint8(images)))
    expected = three_subjects.get_encoding_model(MODEL_ID, "cpu", subject=1).encode_lazily(images)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, expected.scores[:])


def test_provenance_and_regions_come_along(three_subjects, images):
    model = three_subjects.get_encoding_model(MODEL_ID, "cpu", subject=1)
    responses = model.encode_lazily(images, show_progress=False)
    assert responses.provenance == model.provenance()
    assert responses.mesh == "fsaverage0"  # 12 vertices
    with pytest.raises(InvalidParameterError, match="fsaverage5 is not coarser than fsaverage0"):
        responses.to_fsaverage5()
    assert responses.roi("V1v").lh_vertices.tolist() == [1, 2, 3]


def test_names_that_do_not_fit_are_refused_before_the_network_runs(
    three_subjects, images, monkeypatch
):
    model = three_subjects.get_encoding_model(MODEL_ID, "cpu", subject=1)
    monkeypatch.setattr(model, "activations", lambda batches: pytest.fail("images were encoded"))
    with pytest.raises(InvalidParameterError, match="name"):
        model.encode_lazily(images, names=["a"])


def test_no_images_give_no_rows(three_subjects):
    models = three_subjects.get_encoding_models(MODEL_ID, [1], "cpu")
    ((lh, rh),) = models.generate_response(np.empty((0, 3, 256, 256), np.uint8))
    assert (lh.shape, rh.shape) == ((0, 12), (0, 12))
    (lazy,) = models.encode_lazily(np.empty((0, 3, 256, 256), np.uint8))
    assert lazy.n_images == 0


@pytest.mark.parametrize(
    ("subjects", "error"),
    [
        (1, InvalidParameterTypeError),
        ("12", InvalidParameterTypeError),
        ([], InvalidParameterError),
        ([1, 9], InvalidParameterError),
        ([1, 4], WeightsNotFoundError),
    ],
)
def test_subjects_that_cannot_be_loaded(three_subjects, subjects, error):
    with pytest.raises(error):
        three_subjects.get_encoding_models(MODEL_ID, subjects, "cpu")


def test_models_that_do_not_belong_together():
    with pytest.raises(InvalidParameterError, match="0 models"):
        EncodingModels([])


def test_cleanup_frees_all(three_subjects, images):
    with three_subjects.get_encoding_models(MODEL_ID, [1, 2], "cpu") as models:
        assert "one network for 2 models" in repr(models)
    with pytest.raises(RuntimeError, match="cleaned up"):
        models.generate_response(images)
