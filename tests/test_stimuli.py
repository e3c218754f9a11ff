from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from berg import stimuli
from berg.errors import BERGWarning, StimulusError, StimulusTypeError


def batch(shape=(2, 3, 224, 224), dtype=np.uint8):
    return np.zeros(shape, dtype)


def naive_resize(images: torch.Tensor) -> torch.Tensor:
    """FACTS of the model, written out in one call on the whole batch."""
    height, width = images.shape[-2:]
    size = [256, int(256 * width / height)] if height <= width else [int(256 * height / width), 256]
    resized = torch.nn.functional.interpolate(
        images.float(), size=size, mode="bilinear", align_corners=False, antialias=True
    )
    top, left = (round((side - 224) / 2) for side in size)
    return resized.round().to(torch.uint8)[..., top : top + 224, left : left + 224]


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, ">i4", np.uint32, np.int64, ">u2"])
def test_any_integer_dtype_gives_what_uint8_gives(rng, dtype):
    top = 128 if dtype == np.int8 else 256
    images = rng.integers(0, top, (2, 3, 224, 224), dtype=np.uint8)
    converted = stimuli.as_uint8(stimuli.check_stimulus(images.astype(dtype)))
    np.testing.assert_array_equal(converted, images)


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[::-1],
        lambda a: a[:, ::-1],
        lambda a: a[..., ::-1, ::-1],
        lambda a: a.transpose(0, 1, 3, 2),
        lambda a: a[::2],
        lambda a: np.broadcast_to(a[:1], (5, 3, 230, 230)),
    ],
)
def test_views_of_any_stride_are_taken(rng, view):
    images = view(rng.integers(0, 256, (4, 3, 230, 230), dtype=np.uint8))
    np.testing.assert_array_equal(stimuli.as_uint8(stimuli.check_stimulus(images)), images)


def test_read_only_arrays_are_taken(rng):
    images = rng.integers(0, 256, (2, 3, 224, 224), dtype=np.uint8)
    images.flags.writeable = False
    np.testing.assert_array_equal(stimuli.as_uint8(stimuli.check_stimulus(images)), images)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_no_images_are_fine(dtype):
    empty = stimuli.check_stimulus(batch((0, 3, 300, 300), dtype))
    assert stimuli.preprocess(stimuli.as_uint8(empty)).shape == (0, 3, 224, 224)


@pytest.mark.parametrize(
    ("stimulus", "error", "message"),
    [
        ([[1]], StimulusTypeError, r"not a numpy array\n.*got: +list\n(.*\n)*.*np.stack"),
        ("cat.png", StimulusTypeError, r"do: .*berg encode FILES .*berg\.encode_to_store\(files"),
        (torch.zeros(1), StimulusTypeError, r"numpy\(\)"),
        ("photo.jpg", StimulusTypeError, "berg encode"),
        (Path("photo.jpg"), StimulusTypeError, "berg encode"),
        (Image.new("RGB", (224, 224)), StimulusTypeError, "image.convert"),
        (np.ma.masked_array(batch()), StimulusTypeError, "a pixel cannot be missing"),
        (None, StimulusTypeError, "NoneType"),
        (batch(dtype=np.float32), StimulusTypeError, r"float32(.*\n)*.*\* 255"),
        (batch(dtype=bool), StimulusTypeError, r"bool(.*\n)*.*mask"),
        (np.array([None, None]), StimulusTypeError, "object"),
        (np.array(["a"]), StimulusTypeError, "<U1"),
        (batch((3, 224, 224)), StimulusError, r"3 dimensions(.*\n)*.*np\.newaxis"),
        (batch((224, 224)), StimulusError, "2 dimensions"),
        (batch((1, 1, 3, 224, 224)), StimulusError, "5 dimensions"),
        (batch((2, 224, 224, 3)), StimulusError, r"channels-last(.*\n)*.*moveaxis"),
        (batch((2, 1, 224, 224)), StimulusError, r"1 channel(.*\n)*.*np.repeat"),
        (batch((2, 4, 224, 224)), StimulusError, r"4 channels(.*\n)*.*alpha"),
        (batch((2, 7, 224, 224)), StimulusError, "7 channels"),
        (batch((2, 3, 224, 230)), StimulusError, "not square: 224×230"),
        (batch((2, 3, 0, 0)), StimulusError, "no pixels"),
        (batch(dtype=np.int64) - 1, StimulusError, "values from -1 to -1"),
        (batch(dtype=np.uint16) + 300, StimulusError, "outside 0-255"),
    ],
)
def test_what_is_no_stimulus_is_refused(stimulus, error, message):
    with pytest.raises(error, match=message):
        stimuli.check_stimulus(stimulus)


def test_a_value_out_of_range_is_found_in_any_image(rng):
    images = rng.integers(0, 256, (600, 3, 8, 8))
    images[599, 2, 7, 7] = 256
    with pytest.raises(StimulusError, match="to 256 in images 512-599"):
        stimuli.check_stimulus(images)


def test_small_images_are_taken_with_one_warning():
    with pytest.warns(BERGWarning, match="100×100") as caught:
        stimuli.check_stimulus(batch((5, 3, 100, 100)))
    assert len(caught) == 1


@pytest.fixture(params=[1, 2], ids=["1 thread", "2 threads"])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def noise(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


@settings(deadline=None, max_examples=40)
@given(
    n_images=st.integers(1, 9),
    shorter=st.integers(1, 500),
    aspect=st.floats(1, 4),
    portrait=st.booleans(),
    n_levels=st.sampled_from([2, 3, 5, 256]),  # few grey levels meet halfway between two
    seed=st.integers(0, 2**32 - 1),
)
def test_resize_is_one_naive_call_bit_for_bit(n_images, shorter, aspect, portrait, n_levels, seed):
    sides = (shorter, int(shorter * aspect))
    images = noise((n_images, 3, *(sides[::-1] if portrait else sides)), seed)
    images = images // (256 // n_levels) * (255 // (n_levels - 1))
    assert torch.equal(stimuli.resize_and_crop(images), naive_resize(images))


@pytest.mark.parametrize(
    ("height", "width"),
    [
        *[(1, 1), (1, 30), (30, 1), (2, 3), (64, 64), (224, 224), (255, 257), (257, 257)],
        *[(300, 256), (384, 512), (425, 425), (512, 512), (480, 640), (640, 427), (1360, 714)],
        *[(714, 1360), (2000, 1999), (1024, 1024)],
    ],
)
def test_every_size_is_resized_as_by_the_naive_call(height, width, threads):
    images = noise((2, 3, height, width))
    assert torch.equal(stimuli.resize_and_crop(images), naive_resize(images))


@pytest.mark.parametrize("n_images", [4, 9])
def test_images_that_are_left_after_whole_chunks_are_resized(n_images, threads):
    images = noise((n_images, 3, 425, 425))  # four go together
    assert torch.equal(stimuli.resize_and_crop(images), naive_resize(images))


@pytest.mark.parametrize(
    "view",
    [
        lambda images: images.transpose(2, 3),
        lambda images: images[..., 1::2, :-3],
        lambda images: images[::2],
        lambda images: images[:1].expand(3, -1, -1, -1),
        lambda images: images.contiguous(memory_format=torch.channels_last),
    ],
)
def test_views_are_resized_as_what_they_show(view):
    images = view(noise((3, 3, 330, 411)))
    expected = naive_resize(images.contiguous())
    assert torch.equal(stimuli.resize_and_crop(images), expected)


@pytest.mark.parametrize("side", [1, 100, 256, 425])
def test_no_images_are_resized_to_none(side):
    resized = stimuli.resize_and_crop(noise((0, 3, side, side)))
    assert resized.shape == (0, 3, 224, 224)
    assert resized.dtype == torch.uint8


def test_images_are_left_as_they_were():
    images = noise((3, 3, 256, 256))
    before = images.clone()
    stimuli.preprocess(images)
    stimuli.preprocess(images[..., :200])
    assert torch.equal(images, before)


def test_only_what_needs_it_is_copied(rng):
    images = rng.integers(0, 256, (2, 3, 230, 230), dtype=np.uint8)
    assert np.shares_memory(stimuli.as_uint8(images).numpy(), images)
    read_only = images.copy()
    read_only.flags.writeable = False
    assert not np.shares_memory(stimuli.as_uint8(read_only).numpy(), read_only)


def test_side_of_256_is_only_cropped(rng):
    images = torch.from_numpy(rng.integers(0, 256, (2, 3, 256, 300), dtype=np.uint8))
    expected = images[..., 16:240, 38:262]
    assert torch.equal(stimuli.resize_and_crop(images), expected)


def test_the_shape_of_nsd_synthetic(rng):
    # 714×1360: the longer side becomes int(256 · 1360 / 714) = 487, cut from 132 to 356.
    wide = torch.from_numpy(rng.integers(0, 256, (1, 3, 714, 1360), dtype=np.uint8))
    resized = torch.nn.functional.interpolate(
        wide.float(), size=(256, 487), mode="bilinear", align_corners=False, antialias=True
    )
    expected = resized.round().to(torch.uint8)[..., 16:240, 132:356]
    assert torch.equal(stimuli.resize_and_crop(wide), expected)
    portrait = stimuli.resize_and_crop(wide.transpose(2, 3))
    assert portrait.shape == (1, 3, 224, 224)


def test_normalise_by_hand():
    images = torch.tensor([0, 128, 255], dtype=torch.uint8).view(1, 3, 1, 1).expand(1, 3, 224, 224)
    expected = [(0 - 0.485) / 0.229, (128 / 255 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    normalised = stimuli.normalise(images)
    assert normalised.dtype == torch.float32
    # float32 rounding of numbers up to 3
    np.testing.assert_allclose(normalised[0, :, 5, 7], expected, atol=1e-6)


@pytest.mark.parametrize("n_images", [0, 1, 9])
def test_normalise_is_the_naive_arithmetic_bit_for_bit(n_images):
    images = noise((n_images, 3, 300, 256)).transpose(2, 3)
    mean, std = (torch.tensor(of).view(3, 1, 1) for of in (stimuli.MEAN, stimuli.STD))
    assert torch.equal(stimuli.normalise(images), (images.float() / 255 - mean) / std)


def test_the_network_input_is_stored_channels_last():
    prepared = stimuli.preprocess(torch.zeros(2, 3, 300, 300, dtype=torch.uint8))
    assert prepared.is_contiguous(memory_format=torch.channels_last)


def test_gamma_is_the_square_root(rng):
    images = rng.integers(0, 256, (2, 3, 5, 7), dtype=np.uint8)
    expected = (np.sqrt(images / 255) * 255).astype(np.uint8)
    np.testing.assert_array_equal(stimuli.gamma_corrected(images), expected)
