"""A loaded encoding model: images in, responses of both hemispheres out."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

import berg
from berg import alexnet, stimuli
from berg.catalog import ModelCard, describe_card
from berg.converted import WeightsSource
from berg.devices import full_precision
from berg.encoder import LinearEncoder
from berg.errors import BERGError, FileFormatError, ModelLoadError, ResourceError
from berg.interfaces import BaseModelInterface
from berg.metadata import is_simulated
from berg.selection import Selection

logger = logging.getLogger(__name__)

# Images that go through the network together: 7.6 ms an image on two cores, 7.7 in batches of
# 64 and 8.4 of 32. The activations take about 2.5 MB an image.
BATCH_SIZE = 128

Responses = tuple[NDArray[np.float32], NDArray[np.float32]]


class EncodingModel(BaseModelInterface):
    """The encoding model of one subject, for selected vertices, on one device.

    `berg.BERG.get_encoding_model` makes one. Its attributes do not change once it is made.

    Parameters
    ----------
    card : ModelCard
    subject : int
        Counted from 1.
    selection : Selection
        The vertices that the responses' columns stand for.
    network : alexnet.AlexNet
    encoder : LinearEncoder
    load_metadata : callable
        Returns the subject's metadata.
    source : WeightsSource
        The file that the weights were read from.
    """

    def __init__(
        self,
        card: ModelCard,
        subject: int,
        selection: Selection,
        *,
        network: alexnet.AlexNet,
        encoder: LinearEncoder,
        load_metadata: Callable[[], dict[str, Any]],
        source: WeightsSource,
    ) -> None:
        self.card = card
        self.subject = subject
        self.source = source
        self._selection = selection
        self._loaded: tuple[alexnet.AlexNet, LinearEncoder] | None = (network, encoder)
        self._load_metadata = load_metadata
        self.device = encoder.device

    @property
    def model_id(self) -> str:
        """The model's unique identifier."""
        return self.card.model_id

    @property
    def lh_vertices(self) -> NDArray[np.int64]:
        """Left-hemisphere vertices of the responses' columns, int64, shape (n_lh_vertices,)."""
        return self._selection.lh

    @property
    def rh_vertices(self) -> NDArray[np.int64]:
        """Right-hemisphere vertices of the responses' columns, int64, (n_rh_vertices,)."""
        return self._selection.rh

    @property
    def rois(self) -> tuple[str, ...]:
        """Regions that were selected, under their names in the metadata; may be empty."""
        return self._selection.rois

    @property
    def resize_device(self) -> torch.device:
        """Where images are resized: on the model's device, but for MPS.

        PyTorch before 2.8 has no antialiased interpolation on MPS, which shares the CPU's memory
        anyway.
        """
        return torch.device("cpu") if self.device.type == "mps" else self.device

    def get_model_id(self) -> str:
        """Return the model's unique identifier."""
        return self.model_id

    def generate_response(self, stimulus: np.ndarray, show_progress: bool = True) -> Responses:
        """Generate in silico fMRI responses to a batch of images.

        Memory is bounded by one batch of 128 images plus the output.

        Parameters
        ----------
        stimulus : numpy.ndarray of int, shape (n_images, 3, height, width)
            Square RGB images with values in 0-255; at least 224×224 recommended.
        show_progress : bool, default True
            Whether to show a progress bar.

        Returns
        -------
        lh : numpy.ndarray of float32, shape (n_images, n_lh_vertices)
        rh : numpy.ndarray of float32, shape (n_images, n_rh_vertices)
            Responses in z-scored units. Column j of `lh` is vertex `lh_vertices[j]`.

        Raises
        ------
        StimulusError
            If the stimulus is not a batch of square RGB images.
        ModelLoadError
            If the model was cleaned up.
        """
        images = stimuli.check_stimulus(stimulus)

        def prepared() -> Iterator[torch.Tensor]:
            for start in range(0, len(images), BATCH_SIZE):
                batch = stimuli.as_uint8(images[start : start + BATCH_SIZE])
                yield stimuli.resize_and_crop(batch.to(self.resize_device))

        return self.encode_prepared(prepared(), len(images), show_progress)

    def encode_prepared(
        self,
        batches: Iterable[torch.Tensor],
        n_images: int,
        show_progress: bool = True,
    ) -> Responses:
        """Generate responses to images that are already resized and cropped.

        Parameters
        ----------
        batches : iterable of torch.Tensor of uint8, shape (n_batch, 3, 224, 224)
            As `berg.stimuli.resize_and_crop` makes them.
        n_images : int
            Images in all batches together, at most.
        show_progress : bool, default True
            Whether to show a progress bar.

        Returns
        -------
        lh, rh : numpy.ndarray of float32
            As `generate_response` returns them.

        Raises
        ------
        ModelLoadError
            If the model was cleaned up.
        FileFormatError
            If the weights give responses that are not finite.
        ResourceError
            If the responses do not fit into memory.
        """
        network, _ = self._parts()
        activations = (network(stimuli.normalise(batch.to(self.device))) for batch in batches)
        return self.encode_activations(activations, n_images, show_progress)

    def encode_activations(
        self,
        batches: Iterable[Sequence[torch.Tensor]],
        n_images: int,
        show_progress: bool = True,
    ) -> Responses:
        """Generate responses to images of which the network's activations are known.

        Parameters
        ----------
        batches : iterable of sequence of torch.Tensor of float32, (n_batch, *layer.shape)
            As `berg.alexnet.AlexNet` returns them, on the model's device.
        n_images : int
            Images in all batches together, at most.
        show_progress : bool, default True
            Whether to show a progress bar.

        Returns
        -------
        lh, rh : numpy.ndarray of float32
            As `generate_response` returns them.

        Raises
        ------
        ModelLoadError, FileFormatError, ResourceError
            As `encode_prepared`.
        """
        _, encoder = self._parts()
        # Written once in order before they are filled in blocks: otherwise two threads ask the
        # system for the same pages at once, which costs 2 ms an image (measured, two cores).
        try:
            lh, rh = (
                np.full((n_images, len(vertices)), np.nan, np.float32)
                for vertices in (self.lh_vertices, self.rh_vertices)
            )
        except MemoryError as error:
            raise ResourceError(
                f"the responses to {n_images} images do not fit into memory",
                got=str(error),
                do="select a region of interest, or encode the images in parts",
            ) from error
        start = 0
        with (
            tqdm(total=n_images, desc="Encoding", unit="image", disable=not show_progress) as bar,
            torch.inference_mode(),
            full_precision(),
        ):
            for batch in batches:
                stop = start + len(batch[0])
                scores = encoder.scores(batch)
                if not torch.isfinite(scores).all():
                    raise FileFormatError(
                        f"{self.source.path} gives responses that are not finite numbers",
                        got="NaN or infinite scores",
                        accepted="finite weights",
                        do="get the file from its source again, or run `berg convert --force`",
                    )
                encoder.responses(scores, lh[start:stop], rh[start:stop])
                bar.update(len(batch[0]))
                start = stop
        return lh[:start], rh[:start]

    def _parts(self) -> tuple[alexnet.AlexNet, LinearEncoder]:
        """Return network and encoder; raise if they were freed."""
        if self._loaded is None:
            raise ModelLoadError(
                f"the model of subject {self.subject} was cleaned up and holds no weights",
                got=repr(self),
                accepted="a model that is still loaded",
                do="load it again with get_encoding_model",
            )
        return self._loaded

    def get_metadata(self) -> dict[str, Any]:
        """Return the subject's metadata, read anew from disk.

        Returns
        -------
        dict
            With the keys ``"fmri"`` and ``"encoding_models"``, as the card lists them.

        Raises
        ------
        MetadataNotFoundError
            If there is no metadata file.
        FileFormatError
            If the file cannot be read.
        """
        return self._load_metadata()

    def describe(self) -> dict[str, Any]:
        """Print the model's card and return it as a dict."""
        print(self.card)  # noqa: T201 - the card says that describe prints
        return describe_card(self.card)

    def provenance(self) -> dict[str, Any]:
        """Return what is needed to trace a response back to what made it.

        Returns
        -------
        dict
            Plain strings, numbers and lists: model, subject, regions, fingerprints of
            weights and network, whether the subject is simulated, device, versions.

        Raises
        ------
        ModelLoadError
            If the weights' file was replaced since the model was loaded.
        """
        return {
            "model_id": self.model_id,
            "subject": self.subject,
            "rois": list(self.rois),
            "units": "z-scored fMRI response",
            "weights_file": self.source.path.name,
            "weights_sha256": self.source.fingerprint(),
            "network_sha256": alexnet.FINGERPRINT,
            "simulated": self.is_simulated,
            "device": str(self.device),
            "berg": berg.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        }

    @cached_property
    def is_simulated(self) -> bool | None:
        """Whether the subject is a simulated one; None if neither of its files can tell."""
        try:
            return is_simulated(self._load_metadata())
        except BERGError as error:
            logger.info("the metadata cannot tell whether the subject is simulated: %s", error)
            return self.source.simulated

    def cleanup(self) -> None:
        """Free the weights and the network. Calling it again does nothing."""
        self._loaded = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def __repr__(self) -> str:
        state = ", SIMULATED" if self.is_simulated else ""
        state += "" if self._loaded else ", cleaned up"
        return (
            f"<EncodingModel {self.model_id}, subject {self.subject}, "
            f"{len(self.lh_vertices)} + {len(self.rh_vertices)} vertices, {self.device}{state}>"
        )
