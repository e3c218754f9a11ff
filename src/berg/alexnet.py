"""The seeded, untrained AlexNet and the eight layers that are read from it.

The weights are defined in NumPy alone, because PyTorch promises the same random numbers
neither across releases nor across processors. The fingerprint proves them; they are cached
on disk and proved again whenever they are read.

References
----------
Krizhevsky, A. (2014). One weird trick for parallelizing convolutional neural networks.
arXiv:1404.5997 (the architecture that torchvision calls AlexNet).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from berg import network_file
from berg.atomic import replace_atomically
from berg.errors import ModelLoadError, ResourceError, warn
from berg.layout import cached_network
from berg.locks import hold
from berg.stimuli import normalise

logger = logging.getLogger(__name__)

SEED = 20200220
FINGERPRINT = network_file.FINGERPRINT

# Images that go through the convolutions together on the CPU. What 32 of them need, the C
# library hands out from memory that it has; what 128 need, it asks of the system each time,
# which costs 0.5 to 0.9 ms an image (measured, two cores). The fully connected layers take all
# images at once, because they read 220 MB of weights whatever the number of images.
_CHUNK = 32


@dataclass(frozen=True)
class Layer:
    """A layer whose activations are features.

    Parameters
    ----------
    node : str
        Name of the module in torchvision's AlexNet.
    shape : tuple of int
        Shape of one image's activations: (channels, height, width) or (units,).
    rounding : float
        By how much activations of two engines differ in float32, root mean square (measured).
    """

    node: str
    shape: tuple[int, ...]
    rounding: float = 2e-7

    @property
    def n_features(self) -> int:
        """Number of activations of one image."""
        return math.prod(self.shape)


LAYERS = (
    Layer("features.2", (64, 27, 27), 2e-7),  # max-pool 1
    Layer("features.5", (192, 13, 13), 2e-7),  # max-pool 2
    Layer("features.7", (384, 13, 13), 1.5e-7),  # ReLU 3
    Layer("features.9", (256, 13, 13), 7e-8),  # ReLU 4
    Layer("features.12", (256, 6, 6), 4e-8),  # max-pool 5
    Layer("classifier.2", (4096,), 1.5e-8),  # ReLU fc6
    Layer("classifier.5", (4096,), 7e-9),  # ReLU fc7
    Layer("classifier.6", (1000,), 4e-9),  # fc8
)
_NODES = {layer.node for layer in LAYERS}
N_CONVOLUTIONAL = sum(len(layer.shape) == 3 for layer in LAYERS)
N_FEATURES = sum(layer.n_features for layer in LAYERS)  # 205,672


class AlexNet(nn.Module):
    """AlexNet that returns the activations of `LAYERS`.

    Parameters
    ----------
    parameters : mapping of str to torch.Tensor
        The 16 parameters under torchvision's names, as `load_parameters` returns them.
    channels_last : bool
        Whether to convolve in channels-last memory, which takes a quarter less time on a CPU.
        Without, the activations are bit for bit those of PyTorch's modules as they come.
    """

    def __init__(
        self, parameters: Mapping[str, torch.Tensor], *, channels_last: bool = True
    ) -> None:
        super().__init__()
        # The ReLUs work in place: no layer that is read lies before one.
        # Built without storage: the parameters take the places, and no random number is
        # drawn, so the caller's random state stays as it is.
        with torch.device("meta"):
            self.features = nn.Sequential(
                nn.Conv2d(3, 64, kernel_size=11, stride=4, padding=2),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(kernel_size=3, stride=2),
                nn.Conv2d(64, 192, kernel_size=5, padding=2),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(kernel_size=3, stride=2),
                nn.Conv2d(192, 384, kernel_size=3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(384, 256, kernel_size=3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(256, 256, kernel_size=3, padding=1),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(kernel_size=3, stride=2),
            )
            # In eval mode torchvision's dropout passes its input on, and so does its average
            # pool on 6×6 activations. Identity keeps the other modules' numbers.
            self.classifier = nn.Sequential(
                nn.Identity(),
                nn.Linear(9216, 4096),
                nn.ReLU(inplace=True),
                nn.Identity(),
                nn.Linear(4096, 4096),
                nn.ReLU(inplace=True),
                nn.Linear(4096, 1000),
            )
        self.load_state_dict(dict(parameters), assign=True)
        self.requires_grad_(False)
        self.eval()
        # PyTorch's stubs do not know Module.to(memory_format=...).
        self._memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.features.to(memory_format=self._memory_format)  # type: ignore[call-overload]

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in, whatever the images are in."""
        return self.get_parameter("features.0.weight").dtype

    @property
    def precision(self) -> str:
        """Name of `dtype`: "float32" or "bfloat16"."""
        return str(self.dtype).removeprefix("torch.")

    @property
    def engine(self) -> str:
        """What computes, in words."""
        return f"PyTorch's convolutions in {self.precision}"

    def forward(self, images: torch.Tensor) -> list[torch.Tensor]:
        """Return the activations of the eight layers.

        Parameters
        ----------
        images : torch.Tensor of uint8 or float32, shape (n_images, 3, 224, 224)
            Resized and cropped, or preprocessed altogether. Pixels are normalised a few images at
            a time, in memory that stays in the processor's cache.

        Returns
        -------
        list of torch.Tensor of float32
            One tensor a layer, of shape (n_images, *layer.shape), in the order of `LAYERS`.
        """
        layers = [
            torch.empty(
                (len(images), *layer.shape),
                dtype=torch.float32,
                device=images.device,
                memory_format=self._memory_format,
            )
            for layer in LAYERS[:N_CONVOLUTIONAL]
        ]
        self._convolve(images, layers)
        return layers + self._classify(layers[-1])

    def settle(
        self,
        images: torch.Tensor,
        layers: list[torch.Tensor],
        find_delicate: Callable[[], list[torch.Tensor]],
    ) -> list[torch.Tensor]:
        """Compute anew, as exactly as plain PyTorch, what an engine's rounding would show in.

        Parameters
        ----------
        images : torch.Tensor of uint8 or float32, shape (n_images, 3, 224, 224)
        layers : list of torch.Tensor of float32
            What the network returned for them; may be written to.
        find_delicate : callable
            Returns the features on whose rounding results depend, as `LinearEncoder.delicate`
            has them.

        Returns
        -------
        list of torch.Tensor of float32
            `layers`. Here nothing is computed anew: the engine is PyTorch's own.
        """
        return layers

    def _convolve(self, images: torch.Tensor, layers: list[torch.Tensor]) -> None:
        """Compute the first convolutional layers' activations into the caller's tensors."""
        chunk = _CHUNK if images.device.type == "cpu" else max(len(images), 1)
        for start in range(0, len(images), chunk):
            part = slice(start, start + chunk)
            given = preprocessed(images[part])
            given = given.to(self.dtype, memory_format=self._memory_format)
            activations = self._read("features", self.features, given, len(layers))
            for layer, activation in zip(layers, activations, strict=True):
                layer[part] = activation

    def _classify(self, pooled: torch.Tensor) -> list[torch.Tensor]:
        """Return the fully connected layers' activations."""
        given = pooled.flatten(1).to(self.dtype)
        read = self._read("classifier", self.classifier, given, len(LAYERS) - N_CONVOLUTIONAL)
        return [activation.to(pooled.dtype) for activation in read]

    def _read(
        self, name: str, stage: nn.Module, activation: torch.Tensor, n_layers: int
    ) -> list[torch.Tensor]:
        """Send activations through the modules of a stage; return those of its first `LAYERS`."""
        layers: list[torch.Tensor] = []
        for number, module in stage.named_children():
            if len(layers) == n_layers:
                break
            activation = module(activation)
            if f"{name}.{number}" in _NODES:
                layers.append(activation)
        return layers


def preprocessed(images: torch.Tensor) -> torch.Tensor:
    """Normalise pixels; give images that are floats already as they are."""
    return normalise(images) if images.dtype == torch.uint8 else images


def flatten_features(layers: list[torch.Tensor]) -> torch.Tensor:
    """Join the layers' activations into the model's feature vector.

    Parameters
    ----------
    layers : list of torch.Tensor, shapes (n_images, *layer.shape)

    Returns
    -------
    torch.Tensor, shape (n_images, 205672)
        Each layer flattened channel first, in the order of `LAYERS`.
    """
    return torch.cat([activations.flatten(1) for activations in layers], dim=1)


def split_features(features: torch.Tensor) -> list[torch.Tensor]:
    """Cut the model's feature vectors into the layers' activations: undoes `flatten_features`.

    Parameters
    ----------
    features : torch.Tensor, shape (n_images, 205672)

    Returns
    -------
    list of torch.Tensor, shapes (n_images, *layer.shape)
        Views, in the order of `LAYERS`.
    """
    parts = torch.split(features, [layer.n_features for layer in LAYERS], dim=1)
    return [part.reshape(-1, *layer.shape) for part, layer in zip(parts, LAYERS, strict=True)]


def channels_last(activation: torch.Tensor) -> torch.Tensor:
    """Flatten a layer's activations with the channels varying fastest.

    The convolutions leave their results in this order, so no copy is made.

    Parameters
    ----------
    activation : torch.Tensor, shape (n_images, channels, height, width) or (n_images, units)

    Returns
    -------
    torch.Tensor, shape (n_images, n_features)
    """
    if activation.ndim == 2:
        return activation
    return activation.permute(0, 2, 3, 1).flatten(1)


def draw_parameters() -> dict[str, np.ndarray]:
    """Draw the network's 61,100,840 parameters from their definition.

    PyTorch's default initialisation, written out: uniform between ±b, where b follows from
    the number of inputs of a unit. The numbers are the low 24 bits of a Mersenne Twister.

    Returns
    -------
    dict of str to numpy.ndarray of float32
        Weight and bias of each layer in order, under torchvision's names.
    """
    twister = np.random.RandomState(SEED)
    parameters = {}
    for name, shape in network_file.WEIGHT_SHAPES.items():
        fan_in = math.prod(shape[1:])
        # nn.Module's kaiming_uniform_(a=sqrt(5)) has gain sqrt(2 / 6).
        weight_bound = math.sqrt(3) * (math.sqrt(2 / 6) / math.sqrt(fan_in))
        parameters[f"{name}.weight"] = _draw_uniform(twister, shape, weight_bound)
        parameters[f"{name}.bias"] = _draw_uniform(twister, shape[:1], 1 / math.sqrt(fan_in))
    return parameters


def _draw_uniform(
    twister: np.random.RandomState, shape: tuple[int, ...], bound: float
) -> np.ndarray:
    lowest = np.float32(-bound)
    width = np.float32(np.float32(bound) - lowest)
    bits = twister.randint(0, 2**32, size=math.prod(shape), dtype=np.uint32)
    bits &= 2**24 - 1
    values = bits.astype(np.float64)
    values *= 2.0**-24 * np.float64(width)  # exact: a power of two
    values += np.float64(lowest)
    return values.astype(np.float32).reshape(shape)


def compute_fingerprint(parameters: Mapping[str, np.ndarray]) -> str:
    """Return the SHA-256 over the parameters in order, as little-endian float32."""
    return network_file.fingerprint_of(
        np.ascontiguousarray(parameters[name], dtype="<f4").data
        for name, _ in network_file.parameter_shapes()
    )


def load_parameters() -> dict[str, torch.Tensor]:
    """Return the network's parameters: from the cache where it proves right, else drawn.

    Returns
    -------
    dict of str to torch.Tensor of float32
        Memory-mapped when they come from the cache.

    Raises
    ------
    ModelLoadError
        If this machine draws other parameters than the model is made of.

    Warns
    -----
    BERGWarning
        If the cached file holds something else; it is then drawn and written again.
    """
    path = cached_network(FINGERPRINT)
    try:
        if not path.exists():
            with hold(path, wait=True):  # of several processes one draws, and the others wait
                if not path.exists():
                    return _make_cache(path)
    except ResourceError as error:
        logger.warning("cannot cache the network: %s", error)
        return _draw_proved()
    cached = _read_cache(path)
    if cached is not None:
        return cached
    warn(
        f"the cached network at {path} is not the one the model is made of "
        "(a damaged file?); it is made again",
    )
    return _make_cache(path)


def _draw_proved() -> dict[str, torch.Tensor]:
    drawn = draw_parameters()
    found = compute_fingerprint(drawn)
    if found != FINGERPRINT:
        raise ModelLoadError(
            "this machine draws another untrained AlexNet than the model is made of",
            got=f"fingerprint {found}",
            accepted=f"fingerprint {FINGERPRINT}",
            do="please report this with the versions of numpy and Python, and the processor",
        )
    return {name: torch.from_numpy(values) for name, values in drawn.items()}


def load_alexnet(device: str | torch.device = "cpu", *, channels_last: bool = True) -> AlexNet:
    """Return the untrained AlexNet on a device, in eval mode and without gradients.

    Neither the random state of the caller nor any global flag of PyTorch is touched.

    Parameters
    ----------
    device : str or torch.device
    channels_last : bool
        As for `AlexNet`.

    Returns
    -------
    AlexNet

    Raises
    ------
    ModelLoadError
        If this machine draws other parameters than the model is made of.
    """
    return AlexNet(load_parameters(), channels_last=channels_last).to(device)


def _read_cache(path: Path) -> dict[str, torch.Tensor] | None:
    cached = network_file.read_network(path)
    if cached is None:
        return None
    return {
        name: torch.frombuffer(
            cached.memory,
            dtype=torch.float32,
            count=math.prod(shape),
            offset=cached.offsets[name],
        ).view(shape)
        for name, shape in network_file.parameter_shapes()
    }


def _make_cache(path: Path) -> dict[str, torch.Tensor]:
    """Draw the parameters and keep them; where that fails, every run draws again, for 2 s."""
    parameters = _draw_proved()
    try:
        with replace_atomically(path) as temporary:
            save_file(parameters, temporary)
    except (ResourceError, SafetensorError) as error:
        logger.warning("cannot cache the network: %s", error)
    return parameters
