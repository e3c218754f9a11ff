"""Features of NSD's images: the network's activations, a batch at a time, into stores on disk."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from berg.alexnet import N_FEATURES, AlexNet, flatten_features, load_alexnet
from berg.devices import full_precision
from berg.locks import hold
from berg.nsd.images import CoreImages, StoredImages, SyntheticImages
from berg.stimuli import normalise, resize_and_crop
from berg.training.feature_store import FeatureStore
from berg.training.workspace import Workspace

BATCH_SIZE = 128  # images through the network together; 105 MB of features


def make_features(
    work: Workspace, device: torch.device, *, training: bool, show_progress: bool = True
) -> None:
    """Compute the features that are not there yet.

    The stages `Workspace.shared_features` (``core.features``, ``synthetic.features``) and
    `Workspace.colour_features` (``colour.features``) are finished afterwards, and with `training`
    also `Workspace.features` (``train.features``).

    Parameters
    ----------
    work : Workspace
    device : torch.device
        For the network.
    training : bool
        Whether the training images' features are wanted, too.
    show_progress : bool
        Whether to show progress bars.

    Raises
    ------
    ResourceError
        If the disk is full.
    FileFormatError
        If images cannot be read.
    """
    shared, colour = work.shared_features, work.colour_features
    ids = np.arange(work.data.n_synthetic)
    n_shared = work.data.n_synthetic - work.data.n_colour

    @cache
    def network() -> AlexNet:
        # A feature that was all but silent in training has a scale of 1e-6, where another order
        # of summation shows: convolved channels last, 2 of 200 test images of 1,000 training
        # images respond by up to 5e-3 z otherwise than in the pipeline of the card (measured).
        return load_alexnet(device, channels_last=False)

    def write(path: Path, images: StoredImages, ids: NDArray[np.int64]) -> None:
        with tqdm(
            total=len(ids),
            desc=f"Features, {path.stem}",
            unit="image",
            disable=not show_progress,
        ) as bar:
            store = FeatureStore.create(path, len(ids), N_FEATURES)
            for n_done in _write_features(store, images, ids, network(), device):
                bar.update(n_done)

    with (
        CoreImages(work.nsd.files) as core,
        SyntheticImages(work.nsd.files, work.subject) as synthetic,
    ):
        with hold(shared.folder, wait=True):
            if not shared.is_finished:
                with shared.make() as folder:
                    write(folder / "core.features", core, work.nsd.design.shared_images)
                    write(folder / "synthetic.features", synthetic, ids[:n_shared])
        if not colour.is_finished:
            with colour.make() as folder:
                write(folder / "colour.features", synthetic, ids[n_shared:])
        if training and not work.features.is_finished:
            with work.features.make() as folder:
                write(folder / "train.features", core, work.data.partition.train)


def _write_features(
    store: FeatureStore,
    images: StoredImages,
    ids: NDArray[np.int64],
    network: AlexNet,
    device: torch.device,
) -> Iterator[int]:
    """Compute features of images into a store; give the number of images of each batch done.

    The next batch is read, and the last one written, while one is computed.
    """
    starts = range(0, len(ids), BATCH_SIZE)
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        reading = [reader.submit(images.read, ids[:BATCH_SIZE])]
        writing: Future[None] | None = None
        for start in starts:
            pixels = torch.from_numpy(reading.pop().result())
            following = ids[start + BATCH_SIZE : start + 2 * BATCH_SIZE]
            if len(following):
                reading.append(reader.submit(images.read, following))
            with torch.inference_mode(), full_precision():
                batch = normalise(resize_and_crop(pixels.to(device)))
                features = flatten_features(network(batch)).cpu().numpy()
            if writing is not None:
                writing.result()  # raises what went wrong
            writing = writer.submit(store.write, start, features)
            yield len(features)
        if writing is not None:
            writing.result()
