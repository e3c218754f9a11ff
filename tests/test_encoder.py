"""The folded linear part, against NumPy on layers small enough to write out."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from berg import encoder
from berg.alexnet import Layer, channels_last
from berg.devices import full_precision
from berg.encoder import LinearEncoder, columns_channels_last
from berg.weights import EncoderWeights

LAYERS = (Layer("conv", (2, 3, 4)), Layer("pool", (3, 1, 2)), Layer("fc", (5,)))
N_FEATURES = sum(layer.n_features for layer in LAYERS)
N_COMPONENTS = 3
# Responses of order one, from sums of a few dozen float32 products.
CLOSE = {"rtol": 0, "atol": 1e-5}
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")),
]


def draw_weights(rng, n_lh=4, n_rh=6):
    def draw(*shape):
        return rng.standard_normal(shape, dtype=np.float32)

    return EncoderWeights(
        projection=draw(N_COMPONENTS, N_FEATURES) / np.float32(np.sqrt(N_FEATURES)),
        offset=draw(N_COMPONENTS),
        lh_coef=draw(n_lh, N_COMPONENTS),
        lh_intercept=draw(n_lh),
        rh_coef=draw(n_rh, N_COMPONENTS),
        rh_intercept=draw(n_rh),
    )


def draw_activations(rng, n_images=7):
    return [
        torch.from_numpy(rng.standard_normal((n_images, *layer.shape), dtype=np.float32))
        for layer in LAYERS
    ]


def encode(weights, activations, device="cpu"):
    """Scores and responses of the encoder, its outputs filled with NaN beforehand."""
    linear = LinearEncoder(weights, torch.device(device), LAYERS)
    out = [
        np.full((len(activations[0]), len(intercept)), np.nan, np.float32)
        for intercept in (weights.lh_intercept, weights.rh_intercept)
    ]
    with full_precision():
        scores = linear.scores([layer.to(device) for layer in activations])
        linear.responses(scores, *out)
    return scores.cpu().numpy(), *out


def by_hand(weights, activations):
    features = torch.cat([layer.flatten(1) for layer in activations], dim=1).double().numpy()
    scores = features @ weights.projection.T + weights.offset
    return (
        scores,
        scores @ weights.lh_coef.T + weights.lh_intercept,
        scores @ weights.rh_coef.T + weights.rh_intercept,
    )


def assert_all_close(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_allclose(ours, theirs, **CLOSE)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_scores_and_responses_are_numpys(rng, device, memory_format):
    weights, activations = draw_weights(rng), draw_activations(rng)
    stored = [
        layer.contiguous(memory_format=memory_format) if layer.ndim == 4 else layer
        for layer in activations
    ]
    assert_all_close(encode(weights, stored, device), by_hand(weights, activations))


@pytest.mark.parametrize("device", DEVICES)
def test_columns_stored_channels_last_give_the_same(rng, device):
    weights, activations = draw_weights(rng), draw_activations(rng)
    stored = replace(
        weights,
        projection=columns_channels_last(weights.projection, LAYERS),
        channels_last=True,
    )
    assert_all_close(encode(stored, activations, device), by_hand(weights, activations))


@pytest.mark.parametrize("device", DEVICES)
def test_coefficients_in_fortran_order(rng, device):
    weights, activations = draw_weights(rng), draw_activations(rng)
    stored = replace(
        weights,
        lh_coef=np.asfortranarray(weights.lh_coef),
        rh_coef=np.asfortranarray(weights.rh_coef),
    )
    assert_all_close(encode(stored, activations, device), by_hand(weights, activations))


@pytest.mark.parametrize("n_vertices", [63, 64, 65, 131])
def test_blocks_of_vertices_agree_with_one_product(rng, monkeypatch, n_vertices):
    monkeypatch.setattr(encoder, "_BLOCK_BYTES", 0)  # blocks of 64, the fewest
    weights = draw_weights(rng, n_lh=n_vertices)
    activations = draw_activations(rng)
    assert_all_close(encode(weights, activations), by_hand(weights, activations))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("n_lh", "n_rh", "n_images"), [(0, 6, 7), (4, 0, 7), (0, 0, 7), (4, 6, 0)])
def test_nothing_selected_or_shown_gives_empty_arrays(rng, device, n_lh, n_rh, n_images):
    weights, activations = draw_weights(rng, n_lh, n_rh), draw_activations(rng, n_images)
    found = encode(weights, activations, device)
    assert [part.shape for part in found[1:]] == [(n_images, n_lh), (n_images, n_rh)]
    assert_all_close(found, by_hand(weights, activations))


def test_a_block_of_a_larger_output_is_written_in_place(rng):
    weights, activations = draw_weights(rng), draw_activations(rng)
    linear = LinearEncoder(weights, torch.device("cpu"), LAYERS)
    lh, rh = np.zeros((20, 4), np.float32), np.zeros((20, 6), np.float32)
    linear.responses(linear.scores(activations), lh[5:12], rh[5:12])
    assert_all_close((lh[5:12], rh[5:12]), by_hand(weights, activations)[1:])
    assert not lh[:5].any()
    assert not lh[12:].any()


def test_columns_are_reordered_within_each_layer():
    # Two channels of three pixels, then two units: c0p0 c0p1 c0p2 c1p0 c1p1 c1p2 u0 u1.
    layers = (Layer("conv", (2, 1, 3)), Layer("fc", (2,)))
    projection = np.arange(16, dtype=np.float32).reshape(2, 8)
    expected = projection[:, [0, 3, 1, 4, 2, 5, 6, 7]]
    np.testing.assert_array_equal(columns_channels_last(projection, layers), expected)
    np.testing.assert_array_equal(projection.ravel(), np.arange(16))  # it is a copy


@given(st.tuples(*[st.integers(1, 5)] * 3), st.integers(0, 3))
def test_reordered_columns_meet_reordered_activations(shape, n_units):
    layers = (Layer("conv", shape), Layer("fc", (n_units,)))
    one_image = [torch.arange(layer.n_features).reshape(1, *layer.shape) for layer in layers]
    features = torch.cat([layer.flatten(1) for layer in one_image], dim=1).numpy()
    expected = torch.cat([channels_last(layer) for layer in one_image], dim=1).numpy()
    found = columns_channels_last(features.astype(np.float32), layers)
    np.testing.assert_array_equal(found, expected)


def test_delicate_features_are_those_with_long_columns_and_large_rounding(rng):
    layers = [replace(LAYERS[0], rounding=1e-3), replace(LAYERS[1], rounding=1e-4), LAYERS[2]]
    weights = draw_weights(rng)
    projection = np.zeros_like(weights.projection)
    first_of_second = layers[0].n_features
    projection[:, 1] = 1
    projection[0, [0, 3]] = encoder._DELICATE / 1e-3 * np.array([1.1, 0.9])
    projection[1, first_of_second + np.arange(2)] = encoder._DELICATE / 1e-4 * np.array([0.9, -2])
    weights = replace(weights, projection=projection, channels_last=True)
    linear = LinearEncoder(weights, torch.device("cpu"), layers)
    assert [each.tolist() for each in linear.delicate] == [[0], [1], []]
