"""Batches of images through network, projection and readout, for one model or several at once.

The untrained network is the same for all subjects, so models that are asked about the same
images share its activations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from berg import stimuli
from berg.devices import full_precision
from berg.errors import ResourceError
from berg.responses import Responses
from berg.responses.meshes import mesh_of_size

if TYPE_CHECKING:
    from berg.model import EncodingModel

# Images that go through the network together: 7.6 ms an image on two cores, 7.7 in batches of
# 64 and 8.4 of 32. The activations take about 2.5 MB an image.
BATCH_SIZE = 128

# Images whose responses are read out together: for few, moving the weights of all vertices costs
# more than the products. 1.0 ms an image of the whole surface for 512, 1.2 for 256, 1.5 for 128
# (measured, two cores).
_READ_OUT = 512

Float32s = NDArray[np.float32]
HemisphereArrays = tuple[Float32s, Float32s]
# Called with the number of a batch's first image, and its scores on the model's device.
TakeScores = Callable[[int, torch.Tensor], None]


def prepare_batches(images: np.ndarray, device: torch.device) -> Iterator[torch.Tensor]:
    """Resize and crop checked images, a batch at a time.

    Parameters
    ----------
    images : numpy.ndarray of int, shape (n_images, 3, height, width)
        As `berg.stimuli.check_stimulus` returns them.
    device : torch.device
        Where to resize.

    Yields
    ------
    torch.Tensor of uint8, shape (n_batch, 3, 224, 224)
    """
    for start in range(0, len(images), BATCH_SIZE):
        batch = stimuli.as_uint8(images[start : start + BATCH_SIZE])
        on_cuda = device.type == "cuda"
        if on_cuda:
            batch = batch.pin_memory()  # or the copy waits for all that was asked of the GPU
        yield stimuli.resize_and_crop(batch.to(device, non_blocking=on_cuda))


def respond(
    models: Sequence[EncodingModel],
    batches: Iterable[Sequence[torch.Tensor]],
    n_images: int,
    show_progress: bool = True,
) -> list[HemisphereArrays]:
    """Compute the responses of models that read the same activations.

    Parameters
    ----------
    models : sequence of EncodingModel
        On one device.
    batches, n_images, show_progress
        As for `EncodingModel.encode_activations`.

    Returns
    -------
    list of (lh, rh)
        One pair a model: float32 arrays of shapes (n_images, n_lh_vertices) and
        (n_images, n_rh_vertices), in z-scored units.

    Raises
    ------
    ModelLoadError, FileFormatError, ResourceError
        As `EncodingModel.encode_prepared`.
    """
    # Written once in order before they are filled in blocks: otherwise two threads ask the
    # system for the same pages at once, which costs 2 ms an image (measured, two cores).
    try:
        arrays = [
            tuple(
                np.full((n_images, len(vertices)), np.nan, np.float32)
                for vertices in (model.lh_vertices, model.rh_vertices)
            )
            for model in models
        ]
    except MemoryError as error:
        raise ResourceError(
            f"the responses to {n_images} images do not fit into memory",
            got=str(error),
            do="select a region of interest, encode the images in parts, or use encode_lazily",
        ) from error

    readers = [_Reader(model, *pair) for model, pair in zip(models, arrays, strict=True)]
    takers = [reader.take for reader in readers]
    n_done = project(models, batches, n_images, takers, show_progress)
    for reader in readers:
        reader.read_out()
    return [(lh[:n_done], rh[:n_done]) for lh, rh in arrays]


class _Reader:
    """Keeps a model's scores until there are enough images, and reads their responses out."""

    def __init__(self, model: EncodingModel, lh: Float32s, rh: Float32s) -> None:
        self._model, self._arrays = model, (lh, rh)
        self._waiting: list[torch.Tensor] = []
        self._n_done = 0

    def take(self, start: int, scores: torch.Tensor) -> None:
        self._waiting.append(scores)
        if start + len(scores) - self._n_done >= _READ_OUT:
            self.read_out()

    def read_out(self) -> None:
        """Compute the responses to the images whose scores wait."""
        if not self._waiting:
            return
        scores = torch.cat(self._waiting)
        self._waiting.clear()
        part = slice(self._n_done, self._n_done + len(scores))
        self._model.read_out(scores, *(array[part] for array in self._arrays))
        self._n_done = part.stop


def encode_lazily(
    models: Sequence[EncodingModel],
    stimulus: np.ndarray,
    names: Sequence[str] | None = None,
    show_progress: bool = True,
) -> list[Responses]:
    """Compute the scores of models that share a network, and give them with their readouts.

    Parameters
    ----------
    models : sequence of EncodingModel
        On one device.
    stimulus, names, show_progress
        As for `EncodingModel.encode_lazily`.

    Returns
    -------
    list of Responses
        One a model.

    Raises
    ------
    StimulusError, InvalidParameterError, ModelLoadError, FileFormatError
        As `EncodingModel.encode_lazily`.
    """
    images = stimuli.check_stimulus(stimulus)
    provenances = [model.provenance() for model in models]  # of the files as they are now
    all_scores = [np.empty((len(images), model.n_components), np.float32) for model in models]

    def keeper(kept: Float32s) -> TakeScores:
        def keep(start: int, scores: torch.Tensor) -> None:
            kept[start : start + len(scores)] = scores.cpu().numpy()

        return keep

    responses = [
        Responses(
            scores,
            model.readout,
            names=names,
            regions=model.regions,
            provenance=provenance,
            mesh=mesh_of_size(model.regions.card.n_vertices),  # simulated brains are smaller
        )
        for model, scores, provenance in zip(models, all_scores, provenances, strict=True)
    ]
    batches = models[0].activations(prepare_batches(images, models[0].resize_device), models[1:])
    project(models, batches, len(images), [keeper(kept) for kept in all_scores], show_progress)
    return responses


def project(
    models: Sequence[EncodingModel],
    batches: Iterable[Sequence[torch.Tensor]],
    n_images: int,
    takers: Sequence[TakeScores],
    show_progress: bool,
) -> int:
    """Compute every model's scores batch by batch, and hand each to its taker.

    Parameters
    ----------
    models : sequence of EncodingModel
    batches : iterable of sequence of torch.Tensor
        As for `EncodingModel.encode_activations`.
    n_images : int
        For the progress bar.
    takers : sequence of callable
        One a model; called with the number of the batch's first image and its scores.
    show_progress : bool

    Returns
    -------
    int
        Number of images.
    """
    start = 0
    with (
        tqdm(total=n_images, desc="Encoding", unit="image", disable=not show_progress) as bar,
        torch.inference_mode(),
        full_precision(),
    ):
        for activations in batches:
            for model, take in zip(models, takers, strict=True):
                take(start, model.scores(activations))
            n_batch = len(activations[0])
            del activations  # their memory serves the next batch
            bar.update(n_batch)
            start += n_batch
    return start
