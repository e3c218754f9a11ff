import sys

import numpy as np
import pytest
from PIL import Image

from berg.errors import InvalidParameterError, MissingExtraError
from berg.simulation import natural_images as module
from berg.simulation.natural_images import (
    check_photographs,
    natural_images,
    photograph_crops,
    synthetic_images,
)


def draw(n_images, seed=1, part="train"):
    return natural_images(n_images, np.random.default_rng(seed), part)


def spectral_slope(image):
    """Slope of the log amplitude spectrum between 4 and 64 cycles per image."""
    grey = image.mean(axis=0) - image.mean()
    amplitude = np.abs(np.fft.fft2(grey))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(256), np.fft.fftfreq(256))) * 256
    band = (frequency >= 4) & (frequency <= 64) & (amplitude > 0)
    return np.polyfit(np.log(frequency[band]), np.log(amplitude[band]), 1)[0]


def test_natural_images_are_seeded_uint8():
    images = draw(12)
    assert images.shape == (12, 3, 256, 256)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, draw(12))
    assert not np.array_equal(images, draw(12, seed=2))


def test_a_longer_set_starts_with_the_shorter():
    np.testing.assert_array_equal(draw(9)[:4], draw(4))


def test_no_images():
    assert draw(0).shape == (0, 3, 256, 256)
    assert synthetic_images(0, np.random.default_rng(0)).shape == (0, 3, 256, 256)


def test_natural_images_differ_and_have_contrast():
    images = draw(60).astype(float)
    flat = images.reshape(60, -1)
    assert flat.std(axis=1).min() > 0  # flat ones are among them, but none is uniform
    assert np.median(flat.std(axis=1)) > 25
    correlations = np.corrcoef(flat)[np.triu_indices(60, 1)]
    assert correlations.max() < 0.999
    assert np.median(np.abs(correlations)) < 0.4


def test_natural_images_have_natural_spectra():
    slopes = [spectral_slope(image) for image in draw(60)]
    # Field (1987): amplitudes of natural scenes fall as 1/f**0.8 to 1/f**1.5.
    assert -1.6 < np.median(slopes) < -0.8


@pytest.mark.parametrize("part", ["train", "test"])
def test_training_and_test_crops_share_no_pixel(part, monkeypatch):
    left_is_black = np.zeros((427, 640, 3), dtype=np.uint8)
    left_is_black[:, 384:] = 255
    photograph = Image.fromarray(left_is_black)
    monkeypatch.setattr(module, "_photographs", lambda: (photograph, photograph))
    rng = np.random.default_rng(3)
    crops = [module._photo_crop(rng, part) for _ in range(50)]
    # PIL's `box` reads nothing outside of it, so not even the filter's skirts mix.
    np.testing.assert_array_equal(np.unique(crops), [0 if part == "train" else 255])


def test_part_is_checked():
    with pytest.raises(InvalidParameterError, match="'val'"):
        draw(1, part="val")


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    module._photographs.cache_clear()
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match=r"berg\[simulate\]"):
        check_photographs()
    monkeypatch.undo()
    check_photographs()


def test_photograph_crops():
    images, names = photograph_crops()
    assert images.shape == (8, 3, 425, 425)
    assert images.dtype == np.uint8
    assert len(set(names)) == 8
    # Different places, so no two look alike pixel by pixel.
    flat = images.reshape(8, -1).astype(float)
    assert np.corrcoef(flat)[np.triu_indices(8, 1)].max() < 0.8


def test_photograph_crops_are_the_photograph():
    from sklearn.datasets import load_sample_image

    images, names = photograph_crops()
    dahlia = load_sample_image("flower.jpg")[2:427, 94:519]  # 425 pixels: not resized
    np.testing.assert_array_equal(images[names.index("dahlia")], dahlia.transpose(2, 0, 1))


def test_synthetic_images_are_seven_kinds():
    images = synthetic_images(14, np.random.default_rng(5))
    np.testing.assert_array_equal(images, synthetic_images(14, np.random.default_rng(5)))
    white, pink, grating, checkers, uniform, scrambled, faint = images[:7]
    assert abs(spectral_slope(white)) < 0.1
    assert spectral_slope(pink) == pytest.approx(-1, abs=0.1)
    assert (pink[0] == pink[1]).all()
    power = np.abs(np.fft.fft2(grating[0] - grating[0].mean())) ** 2
    assert np.sort(power.ravel())[-8:].sum() > 0.5 * power.sum()  # two peaks, somewhat leaked
    assert len(np.unique(checkers)) == 2
    assert (uniform == uniform[:, :1, :1]).all()
    assert scrambled.std() > 10
    assert np.abs(faint.astype(float) - 127.5).max() <= 64  # at most half the contrast


def test_phase_scrambling_keeps_the_spectrum():
    image = draw(1, seed=4)[0] // 4 + 96  # far from 0 and 255
    scrambled = module._phase_scrambled(np.random.default_rng(0), image)
    before, after = np.abs(np.fft.rfft2(image / 255)), np.abs(np.fft.rfft2(scrambled))
    # pixels in float32: 7 digits of amplitudes up to 3e4
    np.testing.assert_allclose(after, before, atol=0.05)
    assert abs(np.corrcoef(image.ravel(), scrambled.ravel())[0, 1]) < 0.9
