"""Image files of any kind as square RGB images."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from berg.errors import BERGError, ImageFileError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm")
ACCEPTED = (
    f"image files ({', '.join(SUFFIXES)}), folders of them, lists of them (.txt), .npy arrays "
    "of images, HDF5 datasets (file.hdf5:dataset) and tar shards (.tar)"
)
SKIP = "go on without it: --skip-bad (skip_bad=True)"
# A store that was begun with other images refuses these.
SKIP_OR_REPLACE = f"{SKIP}; or replace it and start anew"
_NO_PHOTOS = {
    (".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".lst", ".list"): (
        "name the images in a list, one a line: its name ends in .txt"
    ),
    (".npz", ".mat", ".pkl", ".pt", ".parquet"): "np.save the images as an array: .npy",
    (".gz", ".zip", ".7z", ".rar", ".bz2", ".xz", ".zst"): "unpack it, and name what was in it",
}
# Deeper than 8 bits a channel: Pillow's conversion to RGB clips them instead of scaling.
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")


@dataclass(frozen=True)
class ReadImage:
    """An image as it is encoded.

    Parameters
    ----------
    pixels : numpy.ndarray of uint8, shape (3, side, side)
    cropped : bool
        Whether it was cut to its central square, because it was not square.
    """

    pixels: NDArray[np.uint8]
    cropped: bool


def decode_photo(content: bytes, name: str) -> ReadImage:
    """Decode an image file to a square RGB image.

    The orientation that a camera noted is applied, transparent pixels become white, and what
    is not square is cut to its central square. Of an animation, the first picture is taken.

    Parameters
    ----------
    content : bytes
        All of the file.
    name : str
        Named in messages.

    Returns
    -------
    ReadImage

    Raises
    ------
    ImageFileError
        If the bytes are not an 8-bit image.
    """
    try:
        with Image.open(BytesIO(content)) as opened:
            if opened.mode in _DEEP_MODES:
                raise ImageFileError(
                    f"{name} has more than 8 bits a channel",
                    got=f"an image of mode {opened.mode}",
                    accepted="8-bit images",
                    do="convert it to 8 bits with the scaling that you mean",
                )
            image = ImageOps.exif_transpose(opened)
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            pixels = np.asarray(image.convert("RGB"))
    except BERGError:
        raise
    except UnidentifiedImageError as error:  # its text names an object in memory
        raise _unreadable(name, f"{len(content)} bytes of no known kind of image") from error
    # Pillow answers damaged files with whatever its decoders stumble over, and one of them
    # among a thousand must be named.
    except Exception as error:
        raise _unreadable(name, f"{type(error).__name__}: {error}") from error
    square = central_square(pixels)
    # Always a copy: what Pillow gives cannot be written to, which PyTorch warns of.
    return ReadImage(np.array(square.transpose(2, 0, 1), order="C"), square.size != pixels.size)


def check_may_be_photo(name: str) -> None:
    """Raise if a file is named as something that is surely no image.

    Parameters
    ----------
    name : str
        Without one of `SUFFIXES`.

    Raises
    ------
    ImageFileError
    """
    for suffixes, do in _NO_PHOTOS.items():
        if name.lower().endswith(suffixes):
            raise ImageFileError(
                f"{name} is no image, nor what images are found in",
                got=f"a file that ends in {name[name.rindex('.') :]}",
                accepted=ACCEPTED,
                do=do,
            )


def central_square(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a view of the central square of images.

    Parameters
    ----------
    pixels : numpy.ndarray, shape (..., height, width, n_channels)

    Returns
    -------
    numpy.ndarray, shape (..., side, side, n_channels)
        With `side` the shorter of height and width.
    """
    height, width = pixels.shape[-3:-1]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[..., top : top + side, left : left + side, :]


def _unreadable(name: str, got: str) -> ImageFileError:
    return ImageFileError(
        f"{name} cannot be read as an image", got=got, accepted=ACCEPTED, do=SKIP_OR_REPLACE
    )
