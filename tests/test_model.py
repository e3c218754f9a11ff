"""A loaded model, where `test_toolkit` does not reach it through the API."""

import json

import numpy as np
import pytest
import torch

from berg import BERG
from berg.stimuli import as_uint8, resize_and_crop
from conftest import MODEL_ID


@pytest.fixture
def model(tiny):
    return BERG(tiny.berg_dir).get_encoding_model(MODEL_ID, "cpu", {"roi": "V1v"}, subject=1)


def prepared(images, *sizes):
    return list(torch.split(resize_and_crop(as_uint8(images)), list(sizes)))


def test_prepared_batches_are_encoded_as_the_images_are(model, images):
    found = model.encode_prepared(prepared(images, 2, 1), 3, show_progress=False)
    for ours, expected in zip(found, model.generate_response(images), strict=True):
        # Batches of other sizes round differently in float32.
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("sizes", [(), (1,), (2, 1)])
def test_fewer_images_than_announced_give_only_their_rows(model, images, sizes):
    n_images = sum(sizes)
    batches = prepared(images[:n_images], *sizes) if sizes else []
    lh, rh = model.encode_prepared(batches, 10, show_progress=False)
    assert (lh.shape, rh.shape) == ((n_images, 3), (n_images, 2))
    if n_images:
        np.testing.assert_array_equal(
            lh, model.encode_prepared(batches, n_images, show_progress=False)[0]
        )


def test_the_progress_bar_counts_images_and_can_be_off(model, images, capfd):
    model.generate_response(images, show_progress=False)
    assert capfd.readouterr() == ("", "")
    model.generate_response(images)
    out, err = capfd.readouterr()
    assert not out
    assert "3/3" in err


def test_provenance_is_json(model):
    provenance = model.provenance()
    assert json.loads(json.dumps(provenance)) == provenance


def test_the_repr_says_what_it_is(model):
    assert repr(model) == f"<EncodingModel {MODEL_ID}, subject 1, 3 + 2 vertices, cpu>"
