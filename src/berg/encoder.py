"""The linear part of the model: features to scores to responses, on one device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from berg.alexnet import LAYERS, Layer, channels_last
from berg.transfers import read_out_elsewhere
from berg.weights import EncoderWeights

# Responses of a block of vertices that are computed together on the CPU, at most: they stay in the
# processor's cache until the intercepts are added into the output. A power of two vertices, for
# which PyTorch's library takes up to a third less than for others: 1.1 ms an image and both
# hemispheres for 500 images, 1.4 to 1.5 with larger blocks, 1.9 in one product (two cores).
_BLOCK_BYTES = 7 << 18

# By how much the rounding of one feature may move an image's scores before it is delicate. A
# feature that was nearly silent in training is divided by a scale down to 1e-7, and so is its
# rounding. Times the regressions, 5e-3 are 3e-5 z (measured; without such features 500 images
# agreed to 1e-5 z, with them to 1.5e-3).
_DELICATE = 5e-3


class LinearEncoder:
    """Scaler, principal components and regression, folded and ready on a device.

    Parameters
    ----------
    weights : EncoderWeights
        Folded weights of the selected vertices.
    device : torch.device
        Where to compute.
    layers : sequence of Layer
        Layers that the features come from, in order.
    """

    def __init__(
        self,
        weights: EncoderWeights,
        device: torch.device,
        layers: Sequence[Layer] = LAYERS,
    ) -> None:
        self.device = device
        self._layers = tuple(layers)
        projection = weights.projection
        if not weights.channels_last:
            projection = columns_channels_last(projection, self._layers)
        self._projection = torch.from_numpy(projection).to(device)
        self._offset = torch.from_numpy(weights.offset).to(device)
        self._regressions = [
            (torch.from_numpy(coef).to(device), torch.from_numpy(intercept).to(device))
            for coef, intercept in (
                (weights.lh_coef, weights.lh_intercept),
                (weights.rh_coef, weights.rh_intercept),
            )
        ]

    @property
    def n_components(self) -> int:
        """Number of scores of an image."""
        return len(self._offset)

    @property
    def projection(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Matrix (n_components, n_features) and offset (n_components,) of the scores, float32.

        The features are channels last within each layer, as `berg.alexnet.channels_last` has
        them. The tensors are the encoder's own, not copies: they must not be written to.
        """
        return self._projection, self._offset

    @property
    def regressions(self) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
        """Of each hemisphere, coefficients (n_vertices, n_components) and intercept (n_vertices,).

        Float32, of the selected vertices, in z-scored units. They must not be written to.
        """
        return tuple(self._regressions)

    @cached_property
    def delicate(self) -> list[torch.Tensor]:
        """Features on whose rounding the responses depend: a handful of 205,672.

        One tensor of int64 a layer, of positions among its activations as
        `berg.alexnet.channels_last` flattens them.
        """
        squares = torch.zeros_like(self._projection[0])
        for row in self._projection:  # along the memory, in half the time of a norm of columns
            squares.addcmul_(row, row)
        of_layers = torch.split(squares.sqrt(), [layer.n_features for layer in self._layers])
        return [
            (lengths * layer.rounding > _DELICATE).nonzero().flatten()
            for lengths, layer in zip(of_layers, self._layers, strict=True)
        ]

    def scores(self, activations: Sequence[torch.Tensor]) -> torch.Tensor:
        """Project the layers' activations on the principal components.

        Parameters
        ----------
        activations : sequence of torch.Tensor of float32, shapes (n_images, *layer.shape)
            As `AlexNet` returns them, on the encoder's device.

        Returns
        -------
        torch.Tensor of float32, shape (n_images, n_components)
        """
        # Added up as (n_components, n_images): 0.63 ms an image on two cores, 0.68 the other way.
        scores = self._offset[:, None].repeat(1, len(activations[0]))
        start = 0
        for layer, activation in zip(self._layers, activations, strict=True):
            stop = start + layer.n_features
            scores.addmm_(self._projection[:, start:stop], channels_last(activation).T)
            start = stop
        return scores.T.contiguous()

    def responses(
        self,
        scores: torch.Tensor,
        lh: NDArray[np.float32],
        rh: NDArray[np.float32],
    ) -> None:
        """Compute the selected vertices' responses into the caller's arrays.

        Parameters
        ----------
        scores : torch.Tensor of float32, shape (n_images, n_components)
        lh, rh : numpy.ndarray of float32, shapes (n_images, n_lh), (n_images, n_rh)
            Overwritten with responses in z-scored units.
        """
        for out, (coef, intercept) in zip((lh, rh), self._regressions, strict=True):
            target = torch.from_numpy(out)
            if self.device.type == "cpu":
                _read_out_here(scores, coef, intercept, target)
            elif self.device.type == "cuda":
                read_out_elsewhere(scores, coef, intercept, target)
            else:
                target.copy_(torch.addmm(intercept, scores, coef.T))


def _read_out_here(
    scores: torch.Tensor, coef: torch.Tensor, intercept: torch.Tensor, out: torch.Tensor
) -> None:
    """Compute responses on the CPU, a block of vertices at a time."""
    n_images, n_vertices = out.shape
    at_most = max(_BLOCK_BYTES // (4 * max(n_images, 1)), 64)
    n_block = 1 << (at_most.bit_length() - 1)
    product = torch.empty(n_images * min(n_block, n_vertices))
    for start in range(0, n_vertices, n_block):
        part = slice(start, min(start + n_block, n_vertices))
        block = product[: n_images * (part.stop - start)].view(n_images, part.stop - start)
        torch.mm(scores, coef[part].T, out=block)
        torch.add(block, intercept[part], out=out[:, part])


def columns_channels_last(
    projection: NDArray[np.float32], layers: Sequence[Layer] = LAYERS
) -> NDArray[np.float32]:
    """Reorder a projection's columns from channel first to channel last within each layer.

    Parameters
    ----------
    projection : numpy.ndarray of float32, shape (n_components, n_features)
    layers : sequence of Layer
        Layers that the features come from, in order.

    Returns
    -------
    numpy.ndarray of float32, shape (n_components, n_features)
        A copy that fits `berg.alexnet.channels_last`.
    """
    given = torch.from_numpy(projection)
    reordered = torch.empty_like(given)
    start = 0
    for layer in layers:
        part = slice(start, start + layer.n_features)
        reordered[:, part] = channels_last(given[:, part].reshape(len(given), *layer.shape))
        start = part.stop
    return reordered.numpy()
