"""The untrained network in the form that is fastest on a device."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F

from berg.alexnet import N_CONVOLUTIONAL, AlexNet, channels_last, load_parameters, preprocessed
from berg.spectral import SpectralConv2d, Workspace

logger = logging.getLogger(__name__)

# Images that go through the spectral convolutions together, and the fewest for which they pay: all
# of them read 340 MB of transformed weights, whatever the number of images.
_CHUNK = 64
_FEWEST = 16
_FIRST_CHUNK = 16  # images whose 55×55 maps stay in the processor's cache until they are pooled

# Name, side of the maps in positions, and whether they are pooled afterwards.
_SPECTRAL = (
    ("features.3", 27, True),
    ("features.6", 13, False),
    ("features.8", 13, False),
    ("features.10", 13, True),
)


@dataclass(frozen=True)
class _Stage:
    """A convolution of the network after the first, with what follows it."""

    convolution: SpectralConv2d
    bias: torch.Tensor
    is_pooled: bool


class SpectralAlexNet(AlexNet):
    """AlexNet on a CPU, with its convolutions after the first by Fourier transforms.

    Activations differ from those of PyTorch's convolutions by rounding alone. Few images go through
    PyTorch's own; the transformed weights are made for the first batch that is large enough.

    Parameters
    ----------
    parameters : mapping of str to torch.Tensor
        As for `AlexNet`.
    """

    def __init__(self, parameters: Mapping[str, torch.Tensor]) -> None:
        super().__init__(parameters)
        self._stages: list[_Stage] = []
        self._plain: tuple[AlexNet] | None = None  # in a tuple: no part of this module
        self._workspace = Workspace()
        self._at_work = threading.Lock()  # there is one workspace

    @property
    def engine(self) -> str:
        """What computes, in words."""
        return (
            f"convolutions by Fourier transforms in {self.precision}, "
            f"PyTorch's own for fewer than {_FEWEST} images"
        )

    def settle(
        self,
        images: torch.Tensor,
        layers: list[torch.Tensor],
        find_delicate: Callable[[], list[torch.Tensor]],
    ) -> list[torch.Tensor]:
        """Send images that drive delicate features through PyTorch's modules as they come.

        Parameters
        ----------
        images, layers, find_delicate
            As for `AlexNet.settle`.

        Returns
        -------
        list of torch.Tensor of float32
            `layers`; of those images the convolutional layers' activations are plain PyTorch's,
            and those of the others too where one of their features is delicate.
        """
        driven = [
            (channels_last(layer)[:, delicate] > 0).any(dim=1)
            for layer, delicate in zip(layers, find_delicate(), strict=True)
        ]
        chosen = torch.stack(driven).any(dim=0)
        if chosen.any():
            if self._plain is None:
                self._plain = (AlexNet(self.state_dict(), channels_last=False),)
            (plain,) = self._plain
            exact = [layer[chosen] for layer in layers]
            plain._convolve(images[chosen], exact[:N_CONVOLUTIONAL])
            if torch.stack(driven[N_CONVOLUTIONAL:]).any():  # else 220 MB of weights are spared
                exact[N_CONVOLUTIONAL:] = plain._classify(exact[N_CONVOLUTIONAL - 1])
            for layer, activations in zip(layers, exact, strict=True):
                layer[chosen] = activations
        return layers

    def _convolve(self, images: torch.Tensor, layers: list[torch.Tensor]) -> None:
        n_images = len(images)
        if n_images < _FEWEST:
            super()._convolve(images, layers)
            return
        with self._at_work:
            if not self._stages:
                self._stages = self._make_stages()
            n_chunks = -(-n_images // _CHUNK)
            bounds = [n_images * i // n_chunks for i in range(n_chunks + 1)]
            for start, stop in pairwise(bounds):
                self._convolve_chunk(images[start:stop], [layer[start:stop] for layer in layers])

    def _convolve_chunk(self, images: torch.Tensor, layers: list[torch.Tensor]) -> None:
        first, *others = layers
        self._convolve_first(images, first)
        # From here on images are the third axis: (height, width, n_images, channels).
        maps = first.permute(2, 3, 0, 1).contiguous()
        for stage, layer in zip(self._stages, others, strict=True):
            maps = stage.convolution(maps, self._workspace)
            if stage.is_pooled:
                maps = _pool(maps)
            maps = torch.clamp_min(maps.add_(stage.bias), 0)  # leaves the workspace
            layer.permute(2, 3, 0, 1).copy_(maps)

    def _convolve_first(self, images: torch.Tensor, layer: torch.Tensor) -> None:
        weight, bias = self._weights("features.0")
        for start in range(0, len(images), _FIRST_CHUNK):
            part = slice(start, start + _FIRST_CHUNK)
            given = preprocessed(images[part]).contiguous(memory_format=torch.channels_last)
            convolved = F.conv2d(given, weight, bias, stride=4, padding=2)
            pooled = F.max_pool2d(convolved, kernel_size=3, stride=2)
            torch.clamp_min(pooled, 0, out=layer[part])  # after the pool: the same numbers, fewer

    def _classify(self, pooled: torch.Tensor) -> list[torch.Tensor]:
        if len(pooled) < _FEWEST:
            return super()._classify(pooled)
        fc6 = self._connect("classifier.1", pooled.flatten(1)).clamp_min_(0)
        fc7 = self._connect("classifier.4", fc6).clamp_min_(0)
        return [fc6, fc7, self._connect("classifier.6", fc7)]

    def _connect(self, name: str, given: torch.Tensor) -> torch.Tensor:
        """Apply a fully connected layer as a convolution whose kernel is as large as its maps.

        The products are the same. PyTorch's convolutions take 0.65 to 0.75 of the time of its
        matrix products (measured for 64 and 128 images), and of maps of 8×8 positions they do so.
        """
        weight, bias = self._weights(name)
        n_out, n_in = weight.shape
        maps, kernel = (
            matrix.view(len(matrix), 8, 8, n_in // 64).permute(0, 3, 1, 2)
            for matrix in (given, weight)
        )
        return F.conv2d(maps, kernel, bias).view(len(given), n_out)

    def _make_stages(self) -> list[_Stage]:
        """Transform the weights."""
        stages = []
        for name, side, is_pooled in _SPECTRAL:
            weight, bias = self._weights(name)
            stages.append(_Stage(SpectralConv2d(weight, side), bias, is_pooled))
        return stages

    def _weights(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return self.get_parameter(f"{name}.weight"), self.get_parameter(f"{name}.bias")


def _pool(maps: torch.Tensor) -> torch.Tensor:
    """Max-pool maps (height, width, n_images, channels)."""
    height, width, *others = maps.shape
    # Images and channels alike are what nothing is pooled over: one image of many channels.
    one = maps.reshape(1, height, width, -1).permute(0, 3, 1, 2)
    pooled = F.max_pool2d(one, kernel_size=3, stride=2)
    return pooled.permute(0, 2, 3, 1).reshape(*pooled.shape[2:], *others)


def load_network(device: str | torch.device = "cpu", precision: str = "float32") -> AlexNet:
    """Return the untrained AlexNet in the form that is fastest on a device.

    Neither the random state of the caller nor any global flag of PyTorch is touched.

    Parameters
    ----------
    device : str or torch.device
    precision : {"float32", "bfloat16"}
        What the network computes in. Its activations are float32 whatever it is.

    Returns
    -------
    AlexNet
        In eval mode and without gradients.

    Raises
    ------
    ModelLoadError
        If this machine draws other parameters than the model is made of.
    """
    parameters = load_parameters()
    if torch.device(device).type == "cpu" and precision == "float32":
        network: AlexNet = SpectralAlexNet(parameters)
    else:
        network = AlexNet(parameters).to(device, getattr(torch, precision))
    logger.info(
        "network: %s on %s, %d threads, PyTorch %s",
        *(network.engine, device, torch.get_num_threads(), torch.__version__),
    )
    return network
