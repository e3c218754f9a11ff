"""A loaded encoding model: images in, responses of both hemispheres out."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import berg
from berg import alexnet, stimuli
from berg.catalog import ModelCard, describe_card
from berg.converted import WeightsSource
from berg.differentiable import DifferentiableEncoder
from berg.encoder import LinearEncoder
from berg.encoding import Float32s, HemisphereArrays, encode_lazily, prepare_batches, respond
from berg.errors import BERGError, FileFormatError, InvalidParameterError, ModelLoadError
from berg.interfaces import BaseModelInterface
from berg.metadata import is_simulated
from berg.responses import Readout, Responses
from berg.selection import Regions, Selection
from berg.transfers import send_ahead

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Parts:
    """What a model frees when it is cleaned up."""

    network: alexnet.AlexNet
    encoder: LinearEncoder
    readout: Readout


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
    regions : Regions
        The subject's.
    network : alexnet.AlexNet
    encoder : LinearEncoder
    readout : Readout
        The regressions of the selected vertices, in the computer's main memory.
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
        regions: Regions,
        network: alexnet.AlexNet,
        encoder: LinearEncoder,
        readout: Readout,
        load_metadata: Callable[[], dict[str, Any]],
        source: WeightsSource,
    ) -> None:
        self.card = card
        self.subject = subject
        self.source = source
        self.regions = regions
        self._selection = selection
        self._loaded: _Parts | None = _Parts(network, encoder, readout)
        self._load_metadata = load_metadata
        self.device = encoder.device
        self.precision = network.precision

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

    def generate_response(
        self, stimulus: np.ndarray, show_progress: bool = True
    ) -> HemisphereArrays:
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
        batches = prepare_batches(images, self.resize_device)
        return self.encode_prepared(batches, len(images), show_progress)

    def encode_lazily(
        self,
        stimulus: np.ndarray,
        names: Sequence[str] | None = None,
        show_progress: bool = True,
    ) -> Responses:
        """Generate responses that are computed where they are asked for.

        Of each image only its scores are kept, 1 KB in place of 1.3 MB for the whole surface.
        Nothing is lost: all responses are linear in them.

        Parameters
        ----------
        stimulus : numpy.ndarray of int, shape (n_images, 3, height, width)
            As for `generate_response`.
        names : sequence of str, optional
            Of the images; "0", "1", … by default.
        show_progress : bool, default True
            Whether to show a progress bar.

        Returns
        -------
        Responses
            Of the model's selected vertices.

        Raises
        ------
        StimulusError
            If the stimulus is not a batch of square RGB images.
        InvalidParameterError
            If there is not one name an image.
        ModelLoadError
            If the model was cleaned up, or its weights' file was replaced since it was loaded.

        Examples
        --------
        ::

            responses = model.encode_lazily(images)
            responses.roi("V1v").rdm()             # (n_images, n_images)
            responses.lh[3, :]                     # one map
            lh, rh = responses.mean_over_images()
        """
        return encode_lazily([self], stimulus, names, show_progress)[0]

    def as_torch(self, *, rounding: bool = True) -> DifferentiableEncoder:
        """Return the model as a PyTorch module with gradients, on the same memory.

        Parameters
        ----------
        rounding : bool, default True
            Whether resized images are rounded to 8-bit grey levels, as `generate_response` does;
            the gradient passes the rounding as if it were not there.

        Returns
        -------
        DifferentiableEncoder
            From floating images in 0-1, (n_images, 3, height, width), to responses (lh, rh) in
            z-scored units, on the model's device. It keeps the weights in memory, also after
            the model's `cleanup`.

        Raises
        ------
        ModelLoadError
            If the model was cleaned up.
        InvalidParameterError
            If its network is not in float32: gradients need the digits.

        Examples
        --------
        ::

            encoder = model.as_torch()
            images = torch.rand(1, 3, 256, 256, requires_grad=True)
            lh, rh = encoder(images)
            (gradient,) = torch.autograd.grad(lh.mean(), images)
        """
        parts = self._parts()
        if self.precision != "float32":
            raise InvalidParameterError(
                "the model's network is too coarse for gradients",
                got=f"precision={self.precision!r}",
                accepted="a model in float32",
                do="load the model without precision=",
            )
        return DifferentiableEncoder(parts.network, parts.encoder, rounding=rounding)

    def encode_prepared(
        self,
        batches: Iterable[torch.Tensor],
        n_images: int,
        show_progress: bool = True,
    ) -> HemisphereArrays:
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
        activations = self.activations(batches)
        return self.encode_activations(activations, n_images, show_progress)

    def encode_activations(
        self,
        batches: Iterable[Sequence[torch.Tensor]],
        n_images: int,
        show_progress: bool = True,
    ) -> HemisphereArrays:
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
        return respond([self], batches, n_images, show_progress)[0]

    def activations(
        self, batches: Iterable[torch.Tensor], sharing: Sequence[EncodingModel] = ()
    ) -> Iterator[list[torch.Tensor]]:
        """Send prepared images through the network.

        Parameters
        ----------
        batches : iterable of torch.Tensor of uint8, shape (n_batch, 3, 224, 224)
        sharing : sequence of EncodingModel
            Further models that will read the same activations.

        Yields
        ------
        list of torch.Tensor of float32, shapes (n_batch, *layer.shape)
            On the model's device.

        Raises
        ------
        ModelLoadError
            If the model was cleaned up.
        """
        network = self._parts().network
        encoders = [model._parts().encoder for model in (self, *sharing)]
        on_cuda = self.device.type == "cuda"
        there: Iterator[torch.Tensor] = (
            batch.to(self.device, non_blocking=on_cuda) for batch in batches
        )
        if on_cuda:
            there = send_ahead(there, self.device)

        def find_delicate() -> list[torch.Tensor]:
            of_layers = zip(*(encoder.delicate for encoder in encoders), strict=True)
            return [torch.cat(of_layer) for of_layer in of_layers]

        return (network.settle(batch, network(batch), find_delicate) for batch in there)

    def scores(self, activations: Sequence[torch.Tensor]) -> torch.Tensor:
        """Project one batch of activations on the principal components.

        Parameters
        ----------
        activations : sequence of torch.Tensor of float32, shapes (n_batch, *layer.shape)

        Returns
        -------
        torch.Tensor of float32, shape (n_batch, n_components)
            On the model's device.

        Raises
        ------
        ModelLoadError
            If the model was cleaned up.
        FileFormatError
            If the weights give scores that are not finite.
        """
        scores = self._parts().encoder.scores(activations)
        if not torch.isfinite(scores).all():
            raise FileFormatError(
                f"{self.source.path} gives responses that are not finite numbers",
                got="NaN or infinite scores",
                accepted="finite weights",
                do="get the file from its source again, or run `berg convert --force`",
            )
        return scores

    def read_out(self, scores: torch.Tensor, lh: Float32s, rh: Float32s) -> None:
        """Compute the responses of one batch into the caller's arrays.

        Parameters
        ----------
        scores : torch.Tensor of float32, shape (n_batch, n_components)
        lh, rh : numpy.ndarray of float32, shapes (n_batch, n_lh_vertices), (n_batch, n_rh_vertices)
            Overwritten with responses in z-scored units.

        Raises
        ------
        ModelLoadError
            If the model was cleaned up.
        """
        self._parts().encoder.responses(scores, lh, rh)

    @property
    def readout(self) -> Readout:
        """The regressions of the selected vertices.

        Raises
        ------
        ModelLoadError
            If the model was cleaned up.
        """
        return self._parts().readout

    @property
    def n_components(self) -> int:
        """Scores of an image."""
        return self._parts().encoder.n_components

    def _parts(self) -> _Parts:
        """Return network, encoder and readout; raise if they were freed."""
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
            weights and network, whether the subject is simulated, device, precision and engine of
            the network, versions.

        Raises
        ------
        ModelLoadError
            If the model was cleaned up, or the weights' file was replaced since it was loaded.
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
            "precision": self.precision,
            "engine": self._parts().network.engine,
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
