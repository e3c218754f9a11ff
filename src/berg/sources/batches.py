"""Batches for the network, of which the next ones are read while one is computed on."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from berg import stimuli
from berg.errors import ImageFileError
from berg.sources.photos import ACCEPTED
from berg.sources.reading import ImageReader, ReadImages
from berg.sources.references import ImageFile, ImageReference, ShardImage

_CPU = torch.device("cpu")
_BATCHES_AHEAD = 2
# Pixels that may lie in memory before they are resized. Two batches of 128 images of 425×425
# pixels take 139 MB.
_BYTES_AHEAD = 400_000_000
_FIRST_GUESS = 27_000_000  # bytes of an image before one is read: a photograph of 12 megapixels
_REMEMBERED = 64  # runs whose images tell how large the next will be
# Images that are resized together: enough to keep the cores of a CPU busy, and as many rows as
# are read in one go, which need not be copied side by side.
_TOGETHER = 16
_BYTES_TOGETHER = 64_000_000


@dataclass(frozen=True)
class Batch:
    """Images as the network takes them, but for the normalisation.

    Parameters
    ----------
    pixels : torch.Tensor of uint8, shape (n_images, 3, 224, 224)
        As `berg.stimuli.resize_and_crop` makes them; zeros where an image is bad.
    names : tuple of str
        Of all images.
    is_good : numpy.ndarray of bool, shape (n_images,)
        False where an image could not be read.
    errors : tuple of ImageFileError
        What was wrong with each of those, in order.
    cropped : tuple of str
        Names of images that were cut to their central square.
    small : tuple of str
        Names of image files that were smaller than the network's input, after the cut.
    """

    pixels: torch.Tensor
    names: tuple[str, ...]
    is_good: NDArray[np.bool_]
    errors: tuple[ImageFileError, ...] = ()
    cropped: tuple[str, ...] = ()
    small: tuple[str, ...] = ()


def read_batches(
    references: Iterable[Sequence[ImageReference]],
    *,
    device: torch.device = _CPU,
    skip_bad: bool = False,
    n_threads: int | None = None,
) -> Generator[Batch, None, None]:
    """Read images, and prepare them for the network.

    Threads read and decode about two batches ahead. Images are resized as they are needed, in
    the caller's thread.

    Parameters
    ----------
    references : iterable of sequence of ImageReference
        The images of each batch.
    device : torch.device
        Where images are resized, and where the batches are.
    skip_bad : bool, default False
        Whether to go on past images whose bytes are no image. A file that is gone or changed,
        or a disk that fails, is an error anyway.
    n_threads : int, optional
        Threads that read. By default as many as there are cores for this process, and 2 to 8.

    Yields
    ------
    Batch
        One for each group of references, in their order. Closing the iterator stops the threads.

    Raises
    ------
    ImageFileError
        At the first image that cannot be read, once all batches before its own were given.
    ResourceError
        If a file cannot be read now, whatever it holds.
    """
    with ExitStack() as leaving:
        reader = leaving.enter_context(ImageReader())
        pool = ThreadPoolExecutor(n_threads or _n_threads(), "berg-read")
        # Before the reader's files are closed. What is being read is waited for, nothing else.
        leaving.callback(pool.shutdown, wait=True, cancel_futures=True)
        runs = _read_ahead(references, reader, pool)
        for run in runs:
            preparing = _Preparing(run.group, device)
            preparing.take(run, skip_bad)
            while not run.is_last:
                run = next(runs)
                preparing.take(run, skip_bad)
            yield preparing.finish()


def check_any_is_good(n_good: int, errors: Sequence[ImageFileError]) -> None:
    """Raise if all images were bad.

    Parameters
    ----------
    n_good : int
        Images that could be read, in all batches.
    errors : sequence of ImageFileError
        What was wrong with the others.

    Raises
    ------
    ImageFileError
        If there are errors, and no good image.
    """
    if errors and not n_good:
        raise ImageFileError(
            "no image can be read",
            got=f"{len(errors)} unreadable, the first: {errors[0]}".splitlines()[0],
            accepted=ACCEPTED,
            do="check that these are photographs",
        )


@dataclass(frozen=True)
class _Run:
    """Images of one group that are read together: positions from `start` up to `stop`."""

    group: tuple[ImageReference, ...]
    start: int
    stop: int
    read: Future[list[ReadImages | ImageFileError]]

    @property
    def is_last(self) -> bool:
        return self.stop == len(self.group)


def _read_ahead(
    groups: Iterable[Sequence[ImageReference]], reader: ImageReader, pool: ThreadPoolExecutor
) -> Iterator[_Run]:
    """Have the images of all groups read, and yield each run of them in order, once it is."""
    planned = (
        (group, start, stop)
        for group in map(tuple, groups)
        for start, stop in (reader.runs(group) if group else [(0, 0)])
    )
    pending: deque[_Run] = deque()
    n_ahead = 0
    largest_group = 0
    image_bytes = deque([_FIRST_GUESS], maxlen=_REMEMBERED)
    while True:
        while not pending or (
            n_ahead < _BATCHES_AHEAD * largest_group and n_ahead * max(image_bytes) < _BYTES_AHEAD
        ):
            if (plan := next(planned, None)) is None:
                break
            group, start, stop = plan
            read = pool.submit(reader.read_together, group[start:stop])
            pending.append(_Run(group, start, stop, read))
            n_ahead += stop - start
            largest_group = max(largest_group, len(group))
        if not pending:
            return
        run = pending.popleft()
        sizes = [
            images.pixels[0].nbytes
            for images in run.read.result()
            if not isinstance(images, ImageFileError)
        ]
        if sizes:
            if image_bytes[0] == _FIRST_GUESS:
                image_bytes.clear()
            image_bytes.append(max(sizes))
        yield run
        n_ahead -= run.stop - run.start


class _Preparing:
    """A batch to which images are added as they are read."""

    def __init__(self, group: tuple[ImageReference, ...], device: torch.device) -> None:
        self._group = group
        side = stimuli.NETWORK_SIDE
        self._pixels = torch.zeros((len(group), 3, side, side), dtype=torch.uint8, device=device)
        self._is_good = np.zeros(len(group), np.bool_)
        self._errors: list[ImageFileError] = []
        self._cropped: list[str] = []
        self._small: list[str] = []
        # Images to resize, by their side: positions in the batch, pixels
        self._waiting: dict[int, list[tuple[range, NDArray[np.uint8]]]] = {}
        self._n_waiting = self._bytes_waiting = 0

    def take(self, run: _Run, skip_bad: bool) -> None:
        """Add images. Raises the error of the first that is bad, if they are not skipped."""
        position = run.start
        for images in run.read.result():
            if isinstance(images, ImageFileError):
                if not skip_bad:
                    raise images
                self._errors.append(images)
                position += 1
                continue
            n_images, side = len(images.pixels), images.pixels.shape[-1]
            positions = range(position, position + n_images)
            position = positions.stop
            self._is_good[positions.start : positions.stop] = True
            for reference in self._group[positions.start : positions.stop]:
                if images.cropped:
                    self._cropped.append(reference.name)
                if side < stimuli.NETWORK_SIDE and isinstance(reference, ImageFile | ShardImage):
                    self._small.append(reference.name)
            self._waiting.setdefault(side, []).append((positions, images.pixels))
            self._n_waiting += n_images
            self._bytes_waiting += images.pixels.nbytes
            if self._n_waiting >= _TOGETHER or self._bytes_waiting >= _BYTES_TOGETHER:
                self._resize()

    def finish(self) -> Batch:
        """Return the batch."""
        self._resize()
        return Batch(
            self._pixels,
            tuple(reference.name for reference in self._group),
            self._is_good,
            tuple(self._errors),
            tuple(self._cropped),
            tuple(self._small),
        )

    def _resize(self) -> None:
        for waiting in self._waiting.values():
            positions = [position for some, _ in waiting for position in some]
            blocks = [pixels for _, pixels in waiting]
            together = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
            resized = stimuli.resize_and_crop(torch.from_numpy(together).to(self._pixels.device))
            self._pixels[positions] = resized
        self._waiting.clear()
        self._n_waiting = self._bytes_waiting = 0


def _n_threads() -> int:
    cores = (
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    return min(max(len(cores), 2), 8)
