"""Stimulus files of a simulated NSD tree: the images of NSD-core and of NSD-synthetic."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from berg.atomic import replace_atomically
from berg.simulation.natural_images import Images, Part, natural_images, synthetic_images
from berg.simulation.nsd_tree.chance import Use, chance
from berg.simulation.nsd_tree.design import Indices

_DRAW_BATCH = 32  # images that are drawn together, by each worker
_READ_BATCH = 128  # and read together: 70 MB, and 105 MB of features
_N_WORKERS = min(4, os.cpu_count() or 1)  # PIL and NumPy's FFT free the interpreter
_ASPECT = 1360 / 714  # width over height of NSD-synthetic's images


def write_images(
    path: Path,
    sets: dict[int, tuple[Part, Indices]],
    shape: tuple[int, int],
    seed: int,
    bar: tqdm[Any],
) -> None:
    """Write NSD-core's stimulus file with the images in use; the others take no space.

    Parameters
    ----------
    path : Path
    sets : dict of int
        For each subject, or 0 for what they share, the part of the photographs that images are
        cut from, and the 0-based ids (n_images,) of the images.
    shape : tuple of int
        Ids there are, and pixels a side.
    seed : int
    bar : tqdm
        Advanced by the images written.
    """
    n_ids, side = shape
    jobs = [
        (part, ids[start : start + _DRAW_BATCH], chance(seed, Use.IMAGES, subject, start))
        for subject, (part, ids) in sets.items()
        for start in range(0, len(ids), _DRAW_BATCH)
    ]

    def draw(job: tuple[Part, Indices, np.random.Generator]) -> Images:
        part, ids, rng = job  # every batch has a stream of its own: any order gives the same
        drawn = natural_images(len(ids), rng, part)
        return np.stack([_resized(image, side) for image in drawn])

    with _new_bricks(path, (n_ids, side, side)) as bricks, ThreadPoolExecutor(_N_WORKERS) as pool:
        for start in range(0, len(jobs), _N_WORKERS):  # no more in memory than are being drawn
            batches = jobs[start : start + _N_WORKERS]
            for (_, ids, _), images in zip(batches, pool.map(draw, batches), strict=True):
                for img_num, image in zip(ids, images, strict=True):
                    bricks[img_num] = image
                bar.update(len(ids))


def write_synthetic_images(
    path: Path, n_images: int, height: int, rng: np.random.Generator
) -> None:
    """Write a stimulus file of NSD-synthetic, in the linear values that NSD stores.

    The images are wider than high: squares, continued to both sides by reflection.

    Parameters
    ----------
    path : Path
    n_images : int
    height : int
        In pixels.
    rng : numpy.random.Generator
    """
    width = width_of(height)
    left = (width - height) // 2
    with _new_bricks(path, (n_images, height, width)) as bricks:
        for number, image in enumerate(synthetic_images(n_images, rng)):
            square = _resized(image, height)
            sides = ((0, 0), (left, width - height - left), (0, 0))
            bricks[number] = np.pad(square, sides, mode="symmetric")


def width_of(height: int) -> int:
    """Width of an image of NSD-synthetic, in pixels."""
    return round(height * _ASPECT)


def read_images(path: Path, ids: Indices) -> Iterator[Images]:
    """Read images back in batches of uint8 (n, 3, height, width), in the order of `ids`."""
    import h5py

    with h5py.File(path) as file:
        bricks = file["imgBrick"]
        for start in range(0, len(ids), _READ_BATCH):
            images = np.stack([bricks[img_num] for img_num in ids[start : start + _READ_BATCH]])
            yield np.ascontiguousarray(images.transpose(0, 3, 1, 2))


@contextmanager
def _new_bricks(path: Path, shape: tuple[int, int, int]) -> Iterator[Any]:
    """Create a file's `imgBrick`; a chunk for each image, and only for those written."""
    import h5py

    with replace_atomically(path) as temporary, h5py.File(temporary, "w") as file:
        chunks = (1, *shape[1:], 3)
        yield file.create_dataset("imgBrick", (*shape, 3), np.uint8, chunks=chunks)


def _resized(image: npt.NDArray[np.uint8], side: int) -> npt.NDArray[np.uint8]:
    """Resize a square (3, n, n) image; (side, side, 3), colours last."""
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC))
