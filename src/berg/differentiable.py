"""The encoding model as a PyTorch module: gradients of responses with respect to pixels."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import linear

from berg import stimuli
from berg.alexnet import LAYERS, AlexNet, channels_last
from berg.devices import full_precision
from berg.encoder import LinearEncoder
from berg.errors import StimulusError, StimulusTypeError

ACCEPTED = (
    "a floating torch.Tensor of shape (n_images, 3, height, width), values in 0-1, "
    "of the module's dtype and on its device"
)
_NODES = {layer.node for layer in LAYERS}


class DifferentiableEncoder(nn.Module):
    """From images to responses of both hemispheres, with gradients.

    `berg.model.EncodingModel.as_torch` makes one. It computes what
    `EncodingModel.generate_response` does: on 8-bit images divided by 255, responses agree to
    1e-4 z.

    The weights are frozen buffers that share the model's memory, until the module is moved to
    another device or dtype; that never changes the model. The module keeps them when the model
    is cleaned up. They are not part of ``state_dict()``, which is empty: a checkpoint of
    something larger that holds this module does not hold 450 MB that lie in files already.

    Parameters
    ----------
    network : AlexNet
    encoder : LinearEncoder
        Both on one device, where the module will be too.
    rounding : bool, default True
        Whether resized images are rounded to 8-bit grey levels, as `generate_response` does. The
        gradient passes the rounding as if it were not there. Without, the responses are a
        continuous function of the pixels and differ a little from those of `generate_response`.
        Images whose shorter side is 256 pixels are not resized, and never rounded.

    Notes
    -----
    Gradients of ReLUs and max-pools are one-sided at their kinks, as everywhere in PyTorch.

    The forward pass computes float32 in full, whatever the caller's settings. The backward pass
    runs after it, under the caller's settings, and on CUDA PyTorch's default is to convolve in
    TF32, which keeps three digits. ``with berg.devices.full_precision():`` around it keeps all.
    """

    _projection: torch.Tensor
    _offset: torch.Tensor
    _lh_coef: torch.Tensor
    _lh_intercept: torch.Tensor
    _rh_coef: torch.Tensor
    _rh_intercept: torch.Tensor

    def __init__(self, network: AlexNet, encoder: LinearEncoder, *, rounding: bool = True) -> None:
        super().__init__()
        self.rounding = rounding
        # Another network on the same memory: Module.to and Module.double write into the
        # parameters that they find, which would change the model's.
        self._network = AlexNet(network.state_dict())
        for module in self._network.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                delattr(module, name)
                module.register_buffer(name, parameter.detach(), persistent=False)
        projection, offset = encoder.projection
        (lh_coef, lh_intercept), (rh_coef, rh_intercept) = encoder.regressions
        self._keep(_projection=projection, _offset=offset)
        self._keep(_lh_coef=lh_coef, _lh_intercept=lh_intercept)
        self._keep(_rh_coef=rh_coef, _rh_intercept=rh_intercept)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the responses to images.

        Values are not checked, which would make a GPU wait: those a little outside of 0-1, as
        solvers try them, are computed as they are, without clamping, and NaN gives NaN. Images
        of 0-255 give responses that mean nothing.

        Parameters
        ----------
        images : torch.Tensor of the module's dtype, shape (n_images, 3, height, width)
            RGB, values in 0-1; square or not: the shorter side is resized to 256 pixels and the
            central 224×224 cut. On MPS, the resize needs PyTorch 2.8 or later.

        Returns
        -------
        lh, rh : torch.Tensor of the module's dtype, shapes (n_images, n_lh), (n_images, n_rh)
            Responses in z-scored units, of the model's selected vertices.

        Raises
        ------
        StimulusTypeError
            If they are no floating tensor of the module's dtype and device.
        StimulusError
            If their shape is not that of RGB images.
        """
        self._check(images)
        with full_precision():
            activations = self._activations(self._preprocess(images))
            features = torch.cat([channels_last(layer) for layer in activations], dim=1)
            scores = linear(features, self._projection, self._offset)
            lh = linear(scores, self._lh_coef, self._lh_intercept)
            rh = linear(scores, self._rh_coef, self._rh_intercept)
        return lh, rh

    def _preprocess(self, images: torch.Tensor) -> torch.Tensor:
        """Do what `berg.stimuli.preprocess` does, from 0-1, and with a gradient."""
        if min(images.shape[-2:]) != stimuli.RESIZED_SIDE:
            grey_levels = stimuli.resize(images * 255)
            if self.rounding:
                # The sum is the rounded value, to the bit, and its gradient that of the first term.
                grey_levels = grey_levels + (grey_levels.round() - grey_levels).detach()
            images = grey_levels / 255
        mean, std = (images.new_tensor(of).view(3, 1, 1) for of in (stimuli.MEAN, stimuli.STD))
        normalised = (stimuli.crop(images) - mean) / std
        return normalised.contiguous(memory_format=torch.channels_last)

    def _activations(self, activation: torch.Tensor) -> list[torch.Tensor]:
        """Send the network's input through its modules; return the activations of `LAYERS`.

        Not by `AlexNet.forward`, which collects them in arrays that autograd does not follow.
        """
        layers = []
        for number, module in self._network.features.named_children():
            activation = module(activation)
            if f"features.{number}" in _NODES:
                layers.append(activation)
        activation = activation.flatten(1)
        for number, module in self._network.classifier.named_children():
            activation = module(activation)
            if f"classifier.{number}" in _NODES:
                layers.append(activation)
        return layers

    def _keep(self, **tensors: torch.Tensor) -> None:
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor, persistent=False)

    def _check(self, images: object) -> None:
        if not isinstance(images, torch.Tensor):
            raise StimulusTypeError(
                "the images are not a torch.Tensor",
                got=type(images).__name__,
                accepted=ACCEPTED,
                do="for a uint8 array: torch.from_numpy(array).float() / 255",
            )
        got = f"tensor of shape {tuple(images.shape)}, {images.dtype}, on {images.device}"
        dtype, device = self._projection.dtype, self._projection.device
        if not images.is_floating_point():
            raise StimulusTypeError(
                f"the images have dtype {images.dtype}, which has no gradient",
                got=got,
                accepted=ACCEPTED,
                do="for values in 0-255: images.float() / 255",
            )
        if images.dtype != dtype or images.device != device:
            raise StimulusTypeError(
                f"the module is {dtype} on {device}, and the images are not",
                got=got,
                accepted=ACCEPTED,
                do=f"images.to({str(device)!r}, {dtype}), or module.to(images)",
            )
        if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape[2:]:
            raise StimulusError(
                "the images are not a batch of RGB images",
                got=got,
                accepted=ACCEPTED,
                do="for a single image: images[None]; of grey ones: images.expand(-1, 3, -1, -1)",
            )
