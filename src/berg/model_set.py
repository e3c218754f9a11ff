"""Several encoding models that share one network: all subjects at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from berg import stimuli
from berg.devices import full_precision
from berg.encoding import (
    Float32s,
    HemisphereArrays,
    encode_lazily,
    prepare_batches,
    respond,
)
from berg.errors import InvalidParameterError
from berg.model import EncodingModel
from berg.responses import Responses


class EncodingModels:
    """Encoding models that read the same activations, computed once for all of them.

    `berg.BERG.get_encoding_models` makes one for subjects of a model; any models on one device
    can be put together, also several selections of one subject.

    Parameters
    ----------
    models : sequence of EncodingModel

    Raises
    ------
    InvalidParameterError
        If there is none, or they differ in device or precision.

    Examples
    --------
    ::

        models = berg.get_encoding_models(model_id, subjects=range(1, 9))
        for subject, (lh, rh) in zip(models.subjects, models.generate_response(images)):
            ...
    """

    def __init__(self, models: Sequence[EncodingModel]) -> None:
        kinds = {f"{model.device} in {model.precision}" for model in models}
        if len(kinds) != 1:
            raise InvalidParameterError(
                "models cannot be put together",
                got=f"{len(models)} models on {', '.join(sorted(kinds)) or 'no device'}",
                accepted="one model or more, all on the same device and in the same precision",
                do="load them with the same device= and precision=",
            )
        self.models = tuple(models)

    @property
    def subjects(self) -> tuple[int, ...]:
        """Subject of each model, counted from 1."""
        return tuple(model.subject for model in self.models)

    @property
    def device(self) -> torch.device:
        """Where all of them compute."""
        return self.models[0].device

    @property
    def resize_device(self) -> torch.device:
        """Where images are resized; see `EncodingModel.resize_device`."""
        return self.models[0].resize_device

    def generate_response(
        self, stimulus: np.ndarray, show_progress: bool = True
    ) -> list[HemisphereArrays]:
        """Generate every model's responses to a batch of images.

        Parameters
        ----------
        stimulus, show_progress
            As for `EncodingModel.generate_response`.

        Returns
        -------
        list of (lh, rh)
            One pair a model, in their order: float32 arrays of shapes (n_images, n_lh_vertices)
            and (n_images, n_rh_vertices), in z-scored units.

        Raises
        ------
        StimulusError, ModelLoadError, ResourceError
            As `EncodingModel.generate_response`.
        """
        images = stimuli.check_stimulus(stimulus)
        activations = self.models[0].activations(
            prepare_batches(images, self.resize_device), self.models[1:]
        )
        return respond(self.models, activations, len(images), show_progress)

    def encode_lazily(
        self,
        stimulus: np.ndarray,
        names: Sequence[str] | None = None,
        show_progress: bool = True,
    ) -> list[Responses]:
        """Generate responses that are computed where they are asked for.

        Parameters
        ----------
        stimulus, names, show_progress
            As for `EncodingModel.encode_lazily`.

        Returns
        -------
        list of Responses
            One a model, in their order.

        Raises
        ------
        StimulusError, InvalidParameterError, ModelLoadError
            As `EncodingModel.encode_lazily`.
        """
        return encode_lazily(self.models, stimulus, names, show_progress)

    def scores(self, pixels: torch.Tensor) -> list[Float32s]:
        """Send one batch of prepared images through the network and every projection.

        Parameters
        ----------
        pixels : torch.Tensor of uint8, shape (n_batch, 3, 224, 224)
            As `berg.stimuli.resize_and_crop` makes them.

        Returns
        -------
        list of numpy.ndarray of float32, shape (n_batch, n_components)
            One a model.

        Raises
        ------
        ModelLoadError
            If the models were cleaned up.
        FileFormatError
            If the weights give scores that are not finite.
        """
        with torch.inference_mode(), full_precision():
            (activations,) = self.models[0].activations([pixels], self.models[1:])
            return [model.scores(activations).cpu().numpy() for model in self.models]

    def get_metadata(self) -> list[dict[str, Any]]:
        """Return every subject's metadata, read anew from disk.

        Raises
        ------
        MetadataNotFoundError, FileFormatError
            As `EncodingModel.get_metadata`.
        """
        return [model.get_metadata() for model in self.models]

    def cleanup(self) -> None:
        """Free all weights and the network. Calling it again does nothing."""
        for model in self.models:
            model.cleanup()

    def __enter__(self) -> EncodingModels:
        return self

    def __exit__(self, *_: object) -> None:
        self.cleanup()

    def __len__(self) -> int:
        return len(self.models)

    def __iter__(self) -> Iterator[EncodingModel]:
        return iter(self.models)

    def __getitem__(self, index: int) -> EncodingModel:
        return self.models[index]

    def __repr__(self) -> str:
        lines = "\n".join(f"  {model!r}" for model in self.models)
        return f"<EncodingModels, one network for {len(self.models)} models:\n{lines}>"
