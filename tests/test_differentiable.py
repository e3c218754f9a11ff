"""The model as a PyTorch module, against the model itself and against finite differences."""

import numpy as np
import pytest
import torch

from berg import BERG, stimuli
from berg.errors import ModelLoadError, StimulusError, StimulusTypeError
from conftest import MODEL_ID

# Sums of 205,672 float32 products in another order: 1e-5 of responses of order one (measured).
CLOSE = {"rtol": 0, "atol": 1e-4}


@pytest.fixture
def model(tiny):
    return BERG(tiny.berg_dir).get_encoding_model(MODEL_ID, "cpu", {"roi": "V1v"}, subject=1)


def as_floats(images, dtype=torch.float32):
    return torch.from_numpy(images).to(dtype) / 255


def weighted_sum(encoder):
    """A number that depends on every response, each in its own way."""

    def function(images):
        lh, rh = encoder(images)
        return (torch.cat([lh, rh], dim=1) @ torch.linspace(-1, 2, 5, dtype=images.dtype)).sum()

    return function


def gradient(encoder, images):
    images = images.clone().requires_grad_()
    return torch.autograd.grad(weighted_sum(encoder)(images), images)[0]


def assert_responses_agree(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), theirs, **CLOSE)


# --- the responses


@pytest.mark.parametrize("side", [224, 256, 300, 425])
def test_8_bit_images_give_the_models_responses(model, rng, side):
    images = rng.integers(0, 256, (3, 3, side, side), dtype=np.uint8)
    expected = model.generate_response(images, show_progress=False)
    assert_responses_agree(model.as_torch()(as_floats(images)), expected)
    # The responses differ by more than the tolerance between images.
    assert np.ptp(expected[0], axis=0).min() > 100 * CLOSE["atol"]


def test_images_need_not_be_square(model, rng):
    images = rng.integers(0, 256, (2, 3, 240, 331), dtype=np.uint8)
    prepared = stimuli.resize_and_crop(stimuli.as_uint8(images))
    expected = model.encode_prepared([prepared], 2, show_progress=False)
    assert_responses_agree(model.as_torch()(as_floats(images)), expected)


@pytest.mark.parametrize("side", [1, 100])
def test_small_images_are_enlarged(model, rng, side):
    images = rng.integers(0, 256, (2, 3, side, side), dtype=np.uint8)
    with pytest.warns(match=f"{side}×{side} pixels"):
        expected = model.generate_response(images, show_progress=False)
    assert_responses_agree(model.as_torch()(as_floats(images)), expected)


def test_only_resized_images_are_rounded(model, rng):
    rounded, smooth = model.as_torch(), model.as_torch(rounding=False)
    for side, equal in ((256, True), (300, False)):
        images = torch.from_numpy(rng.random((2, 3, side, side), np.float32))
        assert torch.equal(rounded(images)[0], smooth(images)[0]) == equal
    # Grey levels move by a quarter in the mean, and responses by some 0.01 (measured).
    torch.testing.assert_close(rounded(images)[0], smooth(images)[0], rtol=0, atol=0.1)


@pytest.mark.parametrize("side", [100, 256, 300])
def test_no_images_give_no_rows(model, side):
    lh, rh = model.as_torch()(torch.empty(0, 3, side, side))
    assert (lh.shape, rh.shape) == ((0, 3), (0, 2))


def test_an_image_alone_responds_as_in_a_batch(model, images):
    encoder = model.as_torch()
    with torch.no_grad():
        together = encoder(as_floats(images))
        alone = encoder(as_floats(images[1:2]))
    assert_responses_agree(alone, [hemi[1:2].numpy() for hemi in together])


def test_a_hemisphere_that_is_left_out_has_no_columns(tiny, images):
    nothing, some = np.zeros(12, bool), np.arange(12) < 4
    model = BERG(tiny.berg_dir).get_encoding_model(
        MODEL_ID, "cpu", {"lh_vertices": some, "rh_vertices": nothing}, subject=1
    )
    lh, rh = model.as_torch()(as_floats(images))
    assert (lh.shape, rh.shape) == ((3, 4), (3, 0))


def test_values_outside_of_0_to_1_are_not_clamped(model, images):
    encoder = model.as_torch()
    inside, outside = as_floats(images), as_floats(images) + 0.01
    assert outside.max() > 1
    assert not torch.equal(encoder(outside)[0], encoder(outside.clamp(0, 1))[0])
    inside[1, 0, 128, 128] = torch.nan
    assert encoder(inside)[0].isnan().all(dim=1).tolist() == [False, True, False]


# --- the gradients


@pytest.mark.parametrize("side", [256, 300])
def test_gradients_are_those_of_central_differences(model, rng, side):
    encoder = model.as_torch(rounding=False).double()
    images = torch.from_numpy(rng.random((1, 3, side, side)))
    function, found = weighted_sum(encoder), gradient(encoder, images)
    for _ in range(4):
        direction = torch.from_numpy(rng.choice([-1.0, 1.0], images.shape))
        # A step of 1e-7 in each of 196,608 pixels, in float64: few ReLUs change sides on the way.
        with torch.no_grad():
            rise = function(images + 1e-7 * direction) - function(images - 1e-7 * direction)
        expected = (found * direction).sum().item()
        assert rise.item() / 2e-7 == pytest.approx(expected, rel=1e-4)


def test_the_gradient_passes_the_rounding_as_if_it_were_not_there(model, rng):
    encoder = model.as_torch()
    images = torch.from_numpy(rng.random((2, 3, 300, 300), np.float32)).requires_grad_()
    resized = stimuli.resize(images)
    rounded = (stimuli.resize(images * 255).round() / 255).detach()  # 256 pixels: not resized
    (expected,) = torch.autograd.grad(resized, images, gradient(encoder, rounded))
    torch.testing.assert_close(gradient(encoder, images.detach()), expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("side", [256, 300])
def test_every_pixel_that_the_network_sees_has_a_gradient(model, rng, side):
    images = torch.from_numpy(rng.random((1, 3, side, side), np.float32))
    found = gradient(model.as_torch(), images)[0]
    assert found.isfinite().all()
    top = round((256 - 224) / 2 * side / 256)
    seen = np.zeros((side, side), bool)
    seen[top + 3 : -top - 3, top + 3 : -top - 3] = True  # the resize mixes a few at the border
    assert (found.abs().sum(0).numpy()[seen] > 0).mean() > 0.99
    outer = np.ones((side, side), bool)
    outer[top - 3 : 3 - top, top - 3 : 3 - top] = False
    assert not found[:, outer].any()


# PyTorch 2.13 compiles its forward derivatives with what it has deprecated itself.
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
def test_forward_and_reverse_derivatives_agree(model, rng):
    function = weighted_sum(model.as_torch())
    images, direction = (
        torch.from_numpy(rng.random((2, 3, 300, 300), np.float32)) for _ in range(2)
    )
    forward = torch.func.jvp(function, (images,), (direction,))[1]
    (pulled_back,) = torch.func.vjp(function, images)[1](torch.tensor(1.0))
    # Sums of 270,000 products in float32.
    torch.testing.assert_close((pulled_back * direction).sum(), forward, rtol=1e-3, atol=1e-3)
    twice = torch.autograd.functional.jvp(function, images, direction)[1]
    torch.testing.assert_close(twice, forward, rtol=1e-3, atol=1e-3)


# --- what it holds, and what it leaves alone


def test_the_weights_are_the_models_own_memory_and_frozen(model):
    encoder = model.as_torch()
    parts = model._parts()
    coefficients = [tensor for pair in parts.encoder.regressions for tensor in pair]
    ours = [*parts.network.parameters(), *parts.encoder.projection, *coefficients]
    assert sorted(tensor.data_ptr() for tensor in encoder.buffers()) == sorted(
        tensor.data_ptr() for tensor in ours
    )
    assert not list(encoder.parameters())
    assert not encoder.state_dict()
    assert not any(tensor.requires_grad for tensor in encoder.buffers())


def test_another_dtype_does_not_change_the_model(model, images):
    expected = model.generate_response(images, show_progress=False)
    encoder = model.as_torch().double()
    lh, rh = encoder(as_floats(images, torch.float64))
    assert lh.dtype == rh.dtype == torch.float64
    assert_responses_agree((lh, rh), expected)
    again = model.generate_response(images, show_progress=False)
    np.testing.assert_array_equal(again[0], expected[0])
    assert model.as_torch()(as_floats(images))[0].dtype == torch.float32


def test_it_outlives_the_model(model, images):
    expected = model.generate_response(images, show_progress=False)
    encoder = model.as_torch()
    model.cleanup()
    assert_responses_agree(encoder(as_floats(images)), expected)
    with pytest.raises(ModelLoadError, match="cleaned up"):
        model.as_torch()


def test_it_is_part_of_other_modules(model, images):
    whole = torch.nn.Sequential(torch.nn.Conv2d(3, 3, 1), model.as_torch())
    lh, _ = whole(as_floats(images))
    lh.sum().backward()
    assert set(whole.state_dict()) == {"0.weight", "0.bias"}
    assert all(parameter.grad.any() for parameter in whole.parameters())


def test_the_callers_state_stays_as_it_is(model, images):
    torch.manual_seed(3)
    random, threads = torch.random.get_rng_state(), torch.get_num_threads()
    numpy_random = np.random.get_state()[1].copy()
    precision = torch.get_float32_matmul_precision()
    given = as_floats(images)
    before = given.clone()
    gradient(model.as_torch(), given)
    assert torch.equal(given, before)
    assert torch.equal(torch.random.get_rng_state(), random)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_random)
    assert torch.get_num_threads() == threads
    assert torch.get_float32_matmul_precision() == precision
    assert torch.is_grad_enabled()


# --- what is refused


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (np.zeros((1, 3, 8, 8), np.float32), StimulusTypeError, r"ndarray(.*\n)*.*from_numpy"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), StimulusTypeError, r"uint8(.*\n)*.*/ 255"),
        (
            torch.zeros(1, 3, 8, 8, dtype=torch.float64),
            StimulusTypeError,
            "module is torch.float32",
        ),
        (torch.zeros(1, 3, 8, 8, device="meta"), StimulusTypeError, r"on cpu(.*\n)*.*on meta"),
        (torch.zeros(3, 8, 8), StimulusError, r"\(3, 8, 8\)(.*\n)*.*images\[None\]"),
        (torch.zeros(1, 1, 8, 8), StimulusError, r"\(1, 1, 8, 8\)(.*\n)*.*expand"),
        (torch.zeros(1, 8, 8, 3), StimulusError, r"\(1, 8, 8, 3\)"),
        (torch.zeros(1, 3, 8, 0), StimulusError, r"\(1, 3, 8, 0\)"),
    ],
)
def test_what_are_no_images_is_refused(model, given, error, message):
    with pytest.raises(error, match=message):
        model.as_torch()(given)
