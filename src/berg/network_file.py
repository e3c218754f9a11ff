"""The file that the untrained network is cached in: mapped, and proved by its fingerprint.

Nothing here knows PyTorch. To prove 244 MB takes a core 0.15 s and does not hold Python's lock,
so that a process that is about to import PyTorch, which takes another core a second, can have
both done at once.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import mmap
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from berg.layout import cached_network

logger = logging.getLogger(__name__)

# SHA-256 over the parameters in order, little-endian float32; the same bytes as
# torchvision's own AlexNet after torch.manual_seed(20200220).
FINGERPRINT = "4b191b1b6b03c367697cdf65b605ddfdb5c8519fc4669fc68aa2916b3b856d54"

# Shape of each weight, in the order in which torchvision creates the modules.
WEIGHT_SHAPES: dict[str, tuple[int, ...]] = {
    "features.0": (64, 3, 11, 11),
    "features.3": (192, 64, 5, 5),
    "features.6": (384, 192, 3, 3),
    "features.8": (256, 384, 3, 3),
    "features.10": (256, 256, 3, 3),
    "classifier.1": (4096, 9216),
    "classifier.4": (4096, 4096),
    "classifier.6": (1000, 4096),
}
_FLOAT32_BYTES = 4
_LENGTH_BYTES = 8  # in which a safetensors file says how long its header is

_begun: dict[Path, Future[NetworkFile | None]] = {}


@dataclass(frozen=True)
class NetworkFile:
    """A cached network that has the fingerprint.

    Parameters
    ----------
    memory : mmap.mmap
        The whole file as a private map: writing to it never reaches the file.
    offsets : dict of str to int
        Where each parameter begins in it, in bytes: float32, C order, `parameter_shapes`.
    """

    memory: mmap.mmap
    offsets: dict[str, int]


def parameter_shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the name and the shape of the 16 parameters, in order."""
    for name, shape in WEIGHT_SHAPES.items():
        yield f"{name}.weight", shape
        yield f"{name}.bias", shape[:1]


def fingerprint_of(parameters: Iterable[memoryview]) -> str:
    """Return the SHA-256 over the parameters' bytes, little-endian float32, given in order."""
    digest = hashlib.sha256()
    for parameter in parameters:
        digest.update(parameter)
    return digest.hexdigest()


def begin_reading() -> None:
    """Have a thread read and prove the cached network, if there is one, for `read_network`."""
    path = cached_network(FINGERPRINT)
    if path.is_file() and path not in _begun:
        with_one_thread = ThreadPoolExecutor(1, "berg-prove")
        _begun[path] = with_one_thread.submit(_read, path)
        with_one_thread.shutdown(wait=False)


def read_network(path: Path) -> NetworkFile | None:
    """Map a cached network and prove it, or wait for the thread that does.

    Parameters
    ----------
    path : Path

    Returns
    -------
    NetworkFile or None
        None if the file cannot be read, or holds another network.
    """
    begun = _begun.pop(path, None)
    # A file that was bad may have been made again since.
    return (begun.result() if begun else None) or _read(path)


def _read(path: Path) -> NetworkFile | None:
    try:
        with open(path, "rb") as file:
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        start = _LENGTH_BYTES + int.from_bytes(memory[:_LENGTH_BYTES], "little")
        header = json.loads(memory[_LENGTH_BYTES:start])
        offsets = {name: start + header[name]["data_offsets"][0] for name, _ in parameter_shapes()}
        whole = memoryview(memory)
        found = fingerprint_of(
            whole[offsets[name] : offsets[name] + math.prod(shape) * _FLOAT32_BYTES]
            for name, shape in parameter_shapes()
        )
    except (OSError, ValueError, LookupError, TypeError) as error:
        logger.warning("cannot read %s: %s", path, error)
        return None
    return NetworkFile(memory, offsets) if found == FINGERPRINT else None
