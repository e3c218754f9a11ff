"""Features of NSD's images: the network's activations, a batch at a time, into a store on disk."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from berg.alexnet import N_FEATURES, AlexNet, flatten_features
from berg.devices import full_precision
from berg.stimuli import normalise, resize_and_crop
from berg.training.feature_store import FeatureStore

BATCH_SIZE = 128  # images through the network together; 105 MB of features


class ImageSource(Protocol):
    """Images that are read by their numbers, such as `berg.nsd.images.CoreImages`."""

    def read(self, ids: Any, /) -> NDArray[np.uint8]:
        """Return images, uint8 (n, 3, height, width)."""


def prepared_batches(
    images: ImageSource, ids: NDArray[np.int64], device: torch.device
) -> Iterator[torch.Tensor]:
    """Read images and resize them, one batch ahead of whoever uses them.

    Parameters
    ----------
    images : ImageSource
    ids : (n_images,) int64
        Which images, in order.
    device : torch.device
        Where to resize.

    Yields
    ------
    torch.Tensor of uint8, shape (n_batch, 3, 224, 224)
        On `device`.
    """
    starts = range(0, len(ids), BATCH_SIZE)
    with ThreadPoolExecutor(1) as reader:
        waiting: list[Future[NDArray[np.uint8]]] = []
        for start in starts:
            waiting.append(reader.submit(images.read, ids[start : start + BATCH_SIZE]))
            if len(waiting) > 1:
                yield resize_and_crop(torch.from_numpy(waiting.pop(0).result()).to(device))
        for read in waiting:
            yield resize_and_crop(torch.from_numpy(read.result()).to(device))


def write_features(
    path: Path,
    images: ImageSource,
    ids: NDArray[np.int64],
    network: AlexNet,
    device: torch.device,
    bar: tqdm[Any],
) -> None:
    """Compute the features of images and write them to a store.

    Parameters
    ----------
    path : Path
        The store to create.
    images : ImageSource
    ids : (n_images,) int64
        Images of the store's rows.
    network : AlexNet
        On `device`.
    device : torch.device
    bar : tqdm
        Advanced by the images done.

    Raises
    ------
    ResourceError
        If the disk is full.
    FileFormatError
        If images cannot be read.
    """
    store = FeatureStore.create(path, len(ids), N_FEATURES)
    start = 0
    with torch.inference_mode(), full_precision():
        for batch in prepared_batches(images, ids, device):
            features = flatten_features(network(normalise(batch))).cpu().numpy()
            store.write(start, features)
            start += len(features)
            bar.update(len(features))
