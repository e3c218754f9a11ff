"""Stimuli of a simulated subject: photographs, made images, and an out-of-distribution set.

All are uint8 RGB, channels first, 256 pixels a side. The photographs are the two that
scikit-learn ships: china.jpg by danielbuechele and flower.jpg by vultilion, both CC BY 2.0.
What is made follows the statistics of natural images: spectra that fall with frequency,
occlusion, shading, horizons.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from berg.errors import InvalidParameterError, MissingExtraError

Images = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Rng = np.random.Generator
Part = Literal["train", "test"]

SIZE = 256  # pixels a side
_NSD_SIZE = 425  # pixels a side of NSD's own stimuli

# Training crops lie left of this column of both photographs and test crops right of it, so
# that no pixel of a test image was seen in training. The test part is 256 pixels wide.
_SPLIT_COLUMN = 384
_CROP_PX = (120, 400)  # sides of crops; the part of the photograph may allow less

# Name, photograph (0 china, 1 flower), left, top, side in pixels.
_DEMO_CROPS = (
    ("pagoda", 0, 0, 0, 427),
    ("roofs", 0, 84, 18, 240),
    ("gallery", 0, 60, 200, 200),
    ("lake shore", 0, 400, 186, 240),
    ("eaves", 0, 240, 80, 160),
    ("dahlia", 1, 94, 2, 425),
    ("petals", 1, 216, 140, 180),
    ("two blooms", 1, 268, 227, 200),
)

_Y, _X = np.mgrid[:SIZE, :SIZE].astype(np.float32) / SIZE
_FREQUENCY = np.hypot(np.fft.fftfreq(SIZE)[:, None], np.fft.rfftfreq(SIZE)) * SIZE
_FREQUENCY[0, 0] = 1.0  # cycles per image; the mean's amplitude is set to zero anyway


def check_photographs() -> None:
    """Raise `MissingExtraError` if scikit-learn, which ships the photographs, is missing."""
    _photographs()


def photograph_crops() -> tuple[Images, tuple[str, ...]]:
    """Cut eight fixed squares out of two real photographs.

    Returns
    -------
    images : (8, 3, 425, 425) uint8
        Of the size of NSD's stimuli.
    names : tuple of str
        What each shows.

    Raises
    ------
    MissingExtraError
        If scikit-learn, which ships the photographs, is not installed.
    """
    crops = [_cut(*crop[1:], _NSD_SIZE) for crop in _DEMO_CROPS]
    return np.stack(crops), tuple(crop[0] for crop in _DEMO_CROPS)


def photograph_samples(n_images: int, rng: Rng, part: Part = "test") -> Images:
    """Cut random squares out of the two photographs, as they are.

    Parameters
    ----------
    n_images : int
    rng : numpy.random.Generator
    part : {"train", "test"}
        Which part of the photographs; the two share no pixel.

    Returns
    -------
    (n_images, 3, 256, 256) uint8

    Raises
    ------
    MissingExtraError
        If scikit-learn, which ships the photographs, is not installed.
    """
    return np.stack([_photo_crop(rng, part) for _ in range(n_images)])


def natural_images(n_images: int, rng: Rng, part: Part = "train") -> Images:
    """Draw a varied set of images with natural statistics.

    Two in five are crops of photographs; the others are coloured 1/f noise, dead leaves,
    Gabor patches on 1/f noise, and landscapes with shaded balls. All vary in contrast and
    tint, a quarter of them strongly.

    Parameters
    ----------
    n_images : int
    rng : numpy.random.Generator
        Images are drawn one after the other: a longer set starts with the shorter.
    part : {"train", "test"}
        Which part of the photographs the crops are from; the two share no pixel.

    Returns
    -------
    (n_images, 3, 256, 256) uint8

    Raises
    ------
    InvalidParameterError
        If `part` is neither.
    MissingExtraError
        If scikit-learn, which ships the photographs, is not installed.

    References
    ----------
    Field (1987), https://doi.org/10.1364/JOSAA.4.002379, for the spectra; Lee, Mumford &
    Huang (2001), https://doi.org/10.1023/A:1011109015675, for dead leaves.
    """
    if part not in ("train", "test"):
        raise InvalidParameterError("no such part", got=repr(part), accepted="'train', 'test'")
    makers = (_coloured_noise, _dead_leaves, _gabors, _landscape)
    images = np.empty((n_images, 3, SIZE, SIZE), dtype=np.uint8)
    for image in images:
        kind = rng.choice(5, p=[0.1, 0.2, 0.1, 0.2, 0.4])
        made = makers[kind](rng) if kind < 4 else _photo_crop(rng, part) / np.float32(255)
        image[:] = _as_uint8(_regrade(rng, made))
    return images


def synthetic_images(n_images: int, rng: Rng) -> Images:
    """Draw an out-of-distribution set in the manner of NSD-synthetic.

    Its seven kinds take turns: white noise, pink noise, gratings, checkerboards, uniform
    colours, and crops of photographs with scrambled phases or with reduced contrast.

    Parameters
    ----------
    n_images : int
    rng : numpy.random.Generator

    Returns
    -------
    (n_images, 3, 256, 256) uint8

    Raises
    ------
    MissingExtraError
        If scikit-learn, which ships the photographs, is not installed.

    References
    ----------
    Gifford et al. (2025), https://doi.org/10.48550/arXiv.2503.06286
    """
    makers = (
        lambda: np.repeat(rng.random((1, SIZE, SIZE), dtype=np.float32), 3, axis=0),
        lambda: np.repeat(0.5 + 0.18 * _noise(rng, 1, slope=1.0), 3, axis=0),
        lambda: np.repeat(0.5 + rng.uniform(0.1, 0.5) * _grating(rng)[None], 3, axis=0),
        lambda: _checkerboard(rng),
        lambda: np.broadcast_to(rng.random((3, 1, 1), dtype=np.float32), (3, SIZE, SIZE)),
        lambda: _phase_scrambled(rng, _photo_crop(rng, "test")),
        lambda: 0.5 + rng.uniform(0.05, 0.5) * (_photo_crop(rng, "test") / np.float32(255) - 0.5),
    )
    images = np.empty((n_images, 3, SIZE, SIZE), dtype=np.uint8)
    for number, image in enumerate(images):
        image[:] = _as_uint8(makers[number % len(makers)]())
    return images


@cache
def _photographs() -> tuple[Image.Image, ...]:
    """Read the two photographs, each 427 pixels high and 640 wide."""
    try:
        from sklearn.datasets import load_sample_images
    except ImportError as err:
        raise MissingExtraError(
            "the photographs of the simulated subject come with scikit-learn",
            got="no scikit-learn",
            do='pip install "berg[simulate]"',
        ) from err
    return tuple(Image.fromarray(pixels) for pixels in load_sample_images().images)


def _cut(photo: int, left: int, top: int, side: int, size: int) -> Images:
    """Cut a square and resize it; (3, size, size)."""
    box = (left, top, left + side, top + side)
    crop = _photographs()[photo].resize((size, size), Image.Resampling.BICUBIC, box=box)
    return np.asarray(crop).transpose(2, 0, 1)


def _photo_crop(rng: Rng, part: Part) -> Images:
    photo = int(rng.integers(2))
    width, height = _photographs()[photo].size
    first, last = (0, _SPLIT_COLUMN) if part == "train" else (_SPLIT_COLUMN, width)
    largest = min(_CROP_PX[1], last - first, height)
    side = int(np.exp(rng.uniform(np.log(_CROP_PX[0]), np.log(largest))))
    left = int(rng.integers(first, last - side + 1))
    crop = _cut(photo, left, int(rng.integers(height - side + 1)), side, SIZE)
    return crop[:, :, ::-1] if rng.random() < 0.5 else crop


def _noise(rng: Rng, n_fields: int, slope: float) -> Floats:
    """Draw fields of mean 0 and variance 1 whose amplitude falls as 1/f**slope."""
    amplitude = (_FREQUENCY**-slope).astype(np.float32)
    amplitude[0, 0] = 0.0
    shape = (n_fields, *amplitude.shape)
    spectrum = rng.standard_normal((*shape, 2), dtype=np.float32).view(np.complex64)[..., 0]
    fields: Floats = np.fft.irfft2(spectrum * amplitude).astype(np.float32)
    fields /= fields.std(axis=(1, 2), keepdims=True)
    return fields


def _colours(rng: Rng, n: int) -> Floats:
    """Draw colours (n, 3): any lightness, hues around a common one as within a scene."""
    lightness = rng.uniform(0.08, 0.92, (n, 1))
    tint = rng.normal(0, 0.12, (1, 3)) + rng.normal(0, 0.08, (n, 3))
    return np.clip(lightness + tint, 0, 1).astype(np.float32)


def _coloured_noise(rng: Rng) -> Floats:
    """Draw 1/f**a noise: lightness varies most, blue-yellow less, red-green least."""
    fields = _noise(rng, 3, slope=rng.uniform(0.6, 2.0))
    axes = np.array([[1, 1, 1], [-0.4, -0.4, 0.8], [0.6, -0.6, 0.0]], dtype=np.float32)
    axes *= (rng.uniform(0.05, 0.25, (3, 1)) * [[1.0], [0.6], [0.4]]).astype(np.float32)
    image: Floats = np.tensordot(axes, fields, axes=(0, 0))
    image += _colours(rng, 1)[0][:, None, None]
    return image


def _dead_leaves(rng: Rng) -> Floats:
    """Let textured, shaded leaves of power-law sizes fall upon each other."""
    n = int(rng.integers(20, 120))
    smallest, largest = rng.uniform(4, 16), rng.uniform(40, 120)
    # Radii of density r**-3, for which the picture looks alike at every scale.
    uniform = rng.random(n)
    radii = 1 / np.sqrt(uniform / smallest**2 + (1 - uniform) / largest**2)
    angles = np.linspace(0, 2 * np.pi, int(rng.choice([3, 4, 5, 20])), endpoint=False)
    ratio, turn = rng.uniform(0.3, 1, n), rng.uniform(0, 2 * np.pi, n)
    outline = np.exp(1j * angles)[None]
    outline = outline.real + 1j * ratio[:, None] * outline.imag
    corners = outline * (radii * np.exp(1j * turn))[:, None]
    corners += (rng.uniform(0, SIZE, n) + 1j * rng.uniform(0, SIZE, n))[:, None]
    canvas = Image.new("L", (SIZE, SIZE))
    draw = ImageDraw.Draw(canvas)
    for label, leaf in enumerate(corners, start=1):
        draw.polygon(leaf.astype(np.complex64).view(np.float32).tolist(), fill=label)
    labels = np.asarray(canvas)
    contrast, tilt_x, tilt_y = rng.normal(0, [[0.06], [0.2], [0.2]], (3, n + 1)).astype(np.float32)
    shade = contrast[labels] * _noise(rng, 1, slope=rng.uniform(0.3, 1.5))[0]
    shade += tilt_x[labels] * (_X - 0.5) + tilt_y[labels] * (_Y - 0.5)
    image: Floats = _colours(rng, n + 1).T[:, labels]
    image += shade
    return image


def _regrade(rng: Rng, image: npt.NDArray[np.floating]) -> Floats:
    """Change the contrast and mean of each colour: mildly, or strongly in one image of four.

    The strong change is for the model's sake. A unit of the untrained network that fires in
    none of 700 training images, but faintly in one, gets a scale of 1e-7; a new image that
    drives it then scores thousands of times what a training image does. With vivid and flat
    images in training, the highest of 160 new ones (mean squared whitened score) was 4, 17
    and 5 for three seeds; without, 4,300 among 64 (measured).
    """
    contrast, shift = (1.0, 0.3) if rng.random() < 0.25 else (0.2, 0.05)
    mean = image.mean(axis=(1, 2), keepdims=True)
    gains = np.exp(rng.normal(0, contrast, (3, 1, 1))).astype(np.float32)
    shifts = rng.normal(0, shift, (3, 1, 1)).astype(np.float32)
    regraded: Floats = (image - mean) * gains
    regraded += mean + shifts
    return regraded


def _grating(rng: Rng) -> Floats:
    """Draw a sinusoid of amplitude 1 and any orientation, 2 to 48 cycles per image."""
    frequency = 2 * np.pi * np.exp(rng.uniform(np.log(2), np.log(48)))
    turn, phase = rng.uniform(0, np.pi), rng.uniform(0, 2 * np.pi)
    axis = np.arange(SIZE) / SIZE
    # The wave is a product of two rotations: 512 cosines instead of 65,536.
    along_y = np.exp(1j * (frequency * np.sin(turn) * axis + phase))
    along_x = np.exp(1j * frequency * np.cos(turn) * axis)
    wave: Floats = np.multiply.outer(along_y, along_x).real.astype(np.float32)
    return wave


def _gabors(rng: Rng) -> Floats:
    """Put one to five coloured Gabor patches on 1/f noise."""
    image = 0.45 + rng.uniform(0.02, 0.12) * _noise(rng, 1, slope=rng.uniform(0.8, 1.4))
    image = np.repeat(image, 3, axis=0)
    axis = np.arange(SIZE) / SIZE
    for _ in range(rng.integers(1, 6)):
        width = rng.uniform(0.05, 0.4)
        y, x = (np.exp(-((axis - c) ** 2) / (2 * width**2)) for c in rng.random(2))
        patch = np.multiply.outer(y, x).astype(np.float32) * _grating(rng)
        image += rng.normal(0.3, 0.15, (3, 1, 1)).astype(np.float32) * patch
    return image


def _landscape(rng: Rng) -> Floats:
    """Draw sky, clouds, ground and up to six shaded balls."""
    clouds, texture = _noise(rng, 2, slope=rng.uniform(1.0, 1.8))
    top, low, near, far, cloud = _colours(rng, 5)[:, :, None, None]
    ridge = np.cumsum(rng.normal(0, rng.uniform(0, 0.012), SIZE)) + rng.uniform(0.25, 0.8)
    depth = np.clip(_Y - ridge.astype(np.float32), 0, 1)  # 0 in the sky; the nearer, the more
    sky = top + (low - top) * _Y
    sky += (cloud - sky) * np.clip(clouds - rng.uniform(-0.5, 2), 0, 1)
    grain = texture * (rng.uniform(0.02, 0.3) * (0.2 + depth)).astype(np.float32)
    image: Floats = np.where(depth > 0, far + (near - far) * depth + grain, sky)
    light = rng.normal([0, -1, 1], 1)  # from above and from the viewer, mostly
    light /= np.linalg.norm(light)
    n_bodies = int(rng.integers(7))
    for radius, colour in zip(rng.uniform(10, 60, n_bodies), _colours(rng, n_bodies), strict=True):
        r = int(radius)
        top_px, left_px = rng.integers(-r, SIZE - r, 2)
        box = np.s_[max(top_px, 0) : top_px + 2 * r, max(left_px, 0) : left_px + 2 * r]
        x = (_X[box] * SIZE - left_px - r) / r
        y = (_Y[box] * SIZE - top_px - r) / r
        z_squared = 1 - x**2 - y**2
        normal_light = light[0] * x + light[1] * y + light[2] * np.sqrt(np.maximum(z_squared, 0))
        lit = (0.25 + 0.75 * np.maximum(normal_light, 0) + 0.08 * texture[box]).astype(np.float32)
        body = colour[:, None, None] * lit
        image[(slice(None), *box)] = np.where(z_squared > 0, body, image[(slice(None), *box)])
    return image


def _checkerboard(rng: Rng) -> Floats:
    side = int(np.exp(rng.uniform(np.log(4), np.log(64))))
    rows = (np.arange(SIZE) + rng.integers(side)) // side
    signs = 1 - 2 * ((rows[:, None] + rows) % 2)
    board = 0.5 + rng.uniform(0.1, 0.5) * signs.astype(np.float32)
    return np.repeat(board[None], 3, axis=0)


def _phase_scrambled(rng: Rng, image: Images) -> npt.NDArray[np.floating]:
    """Keep the spectrum of an image and lose its shapes; one set of phases for all colours."""
    spectrum = np.fft.rfft2(image / np.float32(255))
    phases = np.angle(np.fft.rfft2(rng.standard_normal((SIZE, SIZE), dtype=np.float32)))
    phases[0, 0] = 0.0  # the mean stays
    return np.fft.irfft2(spectrum * np.exp(1j * phases))


def _as_uint8(image: npt.NDArray[np.floating]) -> Images:
    """Bring values of 0 to 1 to 0 to 255; what lies beyond saturates."""
    pixels: Images = np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)
    return pixels
