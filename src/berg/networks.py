"""The untrained network in the form that is fastest on a device."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F

from berg.alexnet import N_CONVOLUTIONAL, AlexNet, channels_last, load_parameters, preprocessed
from berg.spectral import SpectralConv2d, Workspace

logger = logging.getLogger(__name__)

# Images whose spectra are multiplied together, and the fewest for which that pays: it reads 340 MB
# of transformed weights, whatever the number of images.
_CHUNK = 128
_FEWEST = 16
# Images that go through all else together: what lies between stays in the processor's cache. Fewer
# for the first convolution, whose maps of 55×55 positions are pooled at once.
_PART = 32
_FIRST_PART = 16

# Computes the maps of a part of the images: (height, width, n_images, channels), contiguous.
_MapsOf = Callable[[slice], torch.Tensor]

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

    def products(
        self, given: _MapsOf, parts: Sequence[slice], workspace: Workspace
    ) -> torch.Tensor:
        """Convolve maps as far as their products of spectra."""
        convolution = self.convolution
        n_images = parts[-1].stop
        shape = (convolution.n_products, n_images, convolution.n_in)
        spectra = workspace.take("spectra", *shape, dtype=convolution.dtype)
        for part in parts:
            convolution.transform(given(part), spectra[:, part], workspace)
        return convolution.multiply(spectra, workspace)

    def maps(
        self, products: torch.Tensor, layer: torch.Tensor, workspace: Workspace, part: slice
    ) -> torch.Tensor:
        """Compute the activations of a part of the images, and keep a copy in a layer."""
        maps = self.convolution.transform_back(products[:, part], workspace)
        if self.is_pooled:
            maps = _pool(maps)
        maps.add_(self.bias).clamp_min_(0)
        _as_maps(layer[part]).copy_(maps)
        return maps


class SpectralAlexNet(AlexNet):
    """AlexNet on a CPU, with its convolutions after the first by Fourier transforms.

    Activations differ from those of PyTorch's convolutions by rounding alone. In bfloat16, the
    transforms are computed in float32. Few images go through
    PyTorch's own; the transformed weights are made for the first batch that is large enough.

    Parameters
    ----------
    parameters : mapping of str to torch.Tensor
        As for `AlexNet`.
    """

    def __init__(self, parameters: Mapping[str, torch.Tensor]) -> None:
        super().__init__(parameters)
        self._exact = parameters  # in float32: in bfloat16, transformed weights are rounded once
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
            `layers`; of those images the activations are plain PyTorch's, as far as the last layer
            with a delicate feature that one of them drives. In bfloat16 `layers` as they are.
        """
        if self.dtype != torch.float32:
            return layers
        driven = torch.stack(
            [
                (channels_last(layer)[:, delicate] > 0).any(dim=1)
                for layer, delicate in zip(layers, find_delicate(), strict=True)
            ]
        )
        chosen = driven.any(dim=0)
        if chosen.any():
            if self._plain is None:
                self._plain = (AlexNet(self.state_dict(), channels_last=False),)
            (plain,) = self._plain
            n_layers = int(driven.any(dim=1).nonzero().max()) + 1  # what follows is not delicate
            exact = [layer[chosen] for layer in layers[: min(n_layers, N_CONVOLUTIONAL)]]
            plain._convolve(images[chosen], exact)
            if n_layers > N_CONVOLUTIONAL:
                exact += plain._classify(exact[-1])
            for layer, activations in zip(layers[:n_layers], exact, strict=False):
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
            for chunk in _parts(n_images, _CHUNK):
                self._convolve_chunk(images[chunk], [layer[chunk] for layer in layers])

    def _convolve_chunk(self, images: torch.Tensor, layers: list[torch.Tensor]) -> None:
        first, *others = layers
        parts = _parts(len(images), _PART)
        maps: _MapsOf = partial(self._convolve_first, images, first)
        for stage, layer in zip(self._stages, others, strict=True):
            products = stage.products(maps, parts, self._workspace)
            maps = partial(stage.maps, products, layer, self._workspace)
        for part in parts:
            maps(part)

    def _convolve_first(
        self, images: torch.Tensor, layer: torch.Tensor, part: slice
    ) -> torch.Tensor:
        images, layer = images[part], layer[part]
        weight, bias = self._weights("features.0")
        for part in _parts(len(images), _FIRST_PART):
            given = preprocessed(images[part])
            given = given.to(self.dtype, memory_format=torch.channels_last)
            convolved = F.conv2d(given, weight, bias, stride=4, padding=2)
            pooled = F.max_pool2d(convolved, kernel_size=3, stride=2).float()
            torch.clamp_min(pooled, 0, out=layer[part])  # after the pool: the same numbers, fewer
        return _as_maps(layer).contiguous()

    def _classify(self, pooled: torch.Tensor) -> list[torch.Tensor]:
        if len(pooled) < _FEWEST:
            return super()._classify(pooled)
        fc6 = self._connect("classifier.1", pooled.flatten(1).to(self.dtype)).clamp_min_(0)
        fc7 = self._connect("classifier.4", fc6).clamp_min_(0)
        fc8 = self._connect("classifier.6", fc7)
        return [activations.to(pooled.dtype) for activations in (fc6, fc7, fc8)]

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
            weight, bias = (self._exact[f"{name}.{part}"] for part in ("weight", "bias"))
            convolution = SpectralConv2d(weight, side, self.dtype)
            stages.append(_Stage(convolution, bias, is_pooled))
        return stages

    def _weights(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return self.get_parameter(f"{name}.weight"), self.get_parameter(f"{name}.bias")


def _parts(n_images: int, most: int) -> list[slice]:
    """Split images evenly."""
    n_parts = -(-n_images // most)
    bounds = [n_images * i // n_parts for i in range(n_parts + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


def _as_maps(layer: torch.Tensor) -> torch.Tensor:
    """View activations (n_images, channels, height, width) in the maps' order of axes."""
    return layer.permute(2, 3, 0, 1)


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
    kind = SpectralAlexNet if torch.device(device).type == "cpu" else AlexNet
    network = kind(parameters).to(device, getattr(torch, precision))
    logger.info(
        "network: %s on %s, %d threads, PyTorch %s",
        *(network.engine, device, torch.get_num_threads(), torch.__version__),
    )
    return network
