"""Image files, folders and `.npy` arrays as batches of prepared images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from berg import stimuli
from berg.errors import BERGError, ImageFileError, StimulusError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm")
_ACCEPTED = f"image files ({', '.join(SUFFIXES)}), folders of them, and .npy arrays of images"
# Deeper than 8 bits a channel: Pillow's conversion to RGB clips them instead of scaling.
_DEEP_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N", "F")

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Photo:
    """One image on disk: a file, or a row of a `.npy` array."""

    path: Path
    row: int | None = None

    @property
    def name(self) -> str:
        """Path as given, with the row in brackets for an array."""
        return str(self.path) if self.row is None else f"{self.path}[{self.row}]"


def find_photos(sources: Sequence[str | os.PathLike[str]]) -> list[Photo]:
    """List the images that files, folders (with their subfolders) and arrays hold.

    Parameters
    ----------
    sources : sequence of path-like
        Folders are searched for files with the suffixes of images, sorted by path; hidden
        files are left out. A `.npy` holds integers of shape (n_images, 3, height, width).

    Returns
    -------
    list of Photo
        In the order of the sources.

    Raises
    ------
    ImageFileError
        If a source does not exist, a folder holds no image, or an array cannot be read.
    StimulusError
        If an array does not hold square RGB images.
    """
    photos: list[Photo] = []
    for source in map(Path, sources):
        if os.path.isdir(source):
            found = sorted(path for path in source.rglob("*") if _is_photo(path, source))
            if not found:
                raise ImageFileError(
                    f"no images in the folder {source}",
                    got=f"{sum(1 for _ in source.rglob('*'))} other files and folders",
                    accepted=_ACCEPTED,
                    do="check the path; .npy arrays are named one by one, not by their folder",
                )
            photos += map(Photo, found)
        elif not os.path.exists(source):
            raise ImageFileError(
                f"there is no file or folder {source}",
                got=f"working in {Path.cwd()}",
                accepted=_ACCEPTED,
                do="check the spelling of the path",
            )
        elif source.suffix == ".npy":
            photos += [Photo(source, row) for row in range(_count_images(source))]
        else:
            photos.append(Photo(source))
    return photos


def read_photo(path: Path) -> tuple[NDArray[np.uint8], bool]:
    """Read an image file as a square RGB image.

    The orientation that a camera noted is applied, transparent pixels become white, and what
    is not square is cut to its central square.

    Parameters
    ----------
    path : Path

    Returns
    -------
    image : numpy.ndarray of uint8, shape (3, side, side)
    cropped : bool
        Whether the image was not square.

    Raises
    ------
    ImageFileError
        If the file cannot be read as an 8-bit image.
    """
    try:
        with Image.open(path) as opened:
            if opened.mode in _DEEP_MODES:
                raise ImageFileError(
                    f"{path} has more than 8 bits a channel",
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
    # Pillow answers damaged files with whatever its decoders stumble over, and one of them
    # among a thousand must be named.
    except Exception as error:
        raise ImageFileError(
            f"{path} cannot be read as an image",
            got=f"{type(error).__name__}: {error}",
            accepted=_ACCEPTED,
            do="remove or replace it, or go on without it: --skip-bad",
        ) from error
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = pixels[top : top + side, left : left + side]
    return np.ascontiguousarray(square.transpose(2, 0, 1)), height != width


class PreparedPhotos:
    """Photos as the batches that `EncodingModel.encode_prepared` takes.

    Parameters
    ----------
    photos : sequence of Photo
    batch_size : int
        Images in a batch.
    skip_bad : bool, default False
        Whether to go on past images that cannot be read.
    device : torch.device
        Where images are resized, and where the batches are.

    Attributes
    ----------
    names : list of str
        Names of the images in the batches that were drawn, in order.
    cropped : list of str
        Those of them that were not square.
    small : list of str
        Those of the image files that were smaller than the network's input, after the crop.
    bad : list of ImageFileError
        One for each image that was skipped.
    """

    def __init__(
        self,
        photos: Sequence[Photo],
        batch_size: int,
        skip_bad: bool = False,
        device: torch.device = _CPU,
    ) -> None:
        self._photos = photos
        self._batch_size = batch_size
        self._skip_bad = skip_bad
        self._device = device
        self.names: list[str] = []
        self.cropped: list[str] = []
        self.small: list[str] = []
        self.bad: list[ImageFileError] = []

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Yield uint8 tensors of shape (n_batch, 3, 224, 224).

        Raises
        ------
        ImageFileError
            At the first image that cannot be read; if they are skipped, when none could be.
        """
        batch: list[torch.Tensor] = []
        for photo in self._photos:
            try:
                batch.append(self._prepare(photo))
            except ImageFileError as error:
                if not self._skip_bad:
                    raise
                self.bad.append(error)
                continue
            self.names.append(photo.name)
            if len(batch) == self._batch_size:
                yield torch.stack(batch)
                batch = []
        if batch:
            yield torch.stack(batch)
        if self.bad and not self.names:
            raise ImageFileError(
                "no image can be read",
                got=f"{len(self.bad)} unreadable, the first: {self.bad[0]}".splitlines()[0],
                accepted=_ACCEPTED,
                do="check that these are photographs",
            )

    def _prepare(self, photo: Photo) -> torch.Tensor:
        if photo.row is None:
            image, cropped = read_photo(photo.path)
            if cropped:
                self.cropped.append(photo.name)
            if image.shape[-1] < stimuli.NETWORK_SIDE:
                self.small.append(photo.name)
        else:
            image = _map_array(photo.path)[photo.row]
        return stimuli.resize_and_crop(stimuli.as_uint8(image[np.newaxis]).to(self._device))[0]


def _is_photo(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in SUFFIXES and not hidden and path.is_file()


def _map_array(path: Path) -> np.ndarray:
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ImageFileError(
            f"{path} cannot be read as an array",
            got=f"{type(error).__name__}: {error}",
            accepted=f"a .npy file: {stimuli.ACCEPTED}",
            do="write it with np.save(path, images)",
        ) from error
    return array


def _count_images(path: Path) -> int:
    """Return how many images an array holds, having checked all of them."""
    try:
        return len(stimuli.check_stimulus(_map_array(path)))
    except StimulusError as error:
        raise type(error)(f"{path}: {error}") from error
