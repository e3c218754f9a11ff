"""Which device computes, and at which precision."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from berg.errors import (
    InvalidParameterError,
    InvalidParameterTypeError,
    ResourceError,
    did_you_mean,
)

NAMES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("float32", "bfloat16")
_ACCEPTED = "auto, cpu, cuda (or cuda:0, cuda:1, ...) and mps"


def pick_device(name: object) -> torch.device:
    """Return the device of that name; ``"auto"`` is CUDA where there is one, else the CPU.

    Raises
    ------
    InvalidParameterTypeError, InvalidParameterError
        If the name is not one of auto, cpu, cuda (or cuda:0, cuda:1, …) and mps.
    ResourceError
        If this machine has no such device.
    """
    if isinstance(name, torch.device):
        name = str(name)
    if not isinstance(name, str):
        raise InvalidParameterTypeError(
            "device is not a name",
            got=f"{type(name).__name__}: {name!r}",
            accepted=_ACCEPTED,
            do="leave device out for the fastest one that there is",
        )
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, colon, index = name.partition(":")
    if kind not in NAMES[1:] or (colon and not (kind == "cuda" and index.isdecimal())):
        raise InvalidParameterError(
            f"there is no device {name!r}.{did_you_mean(name, NAMES)}",
            got=f"device={name!r}",
            accepted=_ACCEPTED,
            do="leave device out for the fastest one that there is",
        )
    if kind == "cuda":
        _check_cuda(name, int(index or 0))
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ResourceError(
            "this machine has no usable MPS device",
            got="device='mps'",
            do="use device='auto' or 'cpu'; MPS needs a Mac with an Apple GPU",
        )
    return torch.device(name)


def check_precision(name: object) -> str:
    """Return the name of a precision in which the network may compute.

    Raises
    ------
    InvalidParameterTypeError, InvalidParameterError
        If it is not one of float32 and bfloat16.
    """
    if not isinstance(name, str):
        raise InvalidParameterTypeError(
            "precision is not a name",
            got=f"{type(name).__name__}: {name!r}",
            accepted=", ".join(PRECISIONS),
            do='leave precision out for "float32"',
        )
    if name not in PRECISIONS:
        raise InvalidParameterError(
            f"there is no precision {name!r}.{did_you_mean(name, PRECISIONS)}",
            got=f"precision={name!r}",
            accepted=", ".join(PRECISIONS),
            do='leave precision out for "float32"; "bfloat16" is faster on some processors and on '
            "GPUs, and less exact",
        )
    return name


def _check_cuda(name: str, index: int) -> None:
    n_devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index < n_devices:
        return
    build = "built without CUDA" if torch.version.cuda is None else f"CUDA {torch.version.cuda}"
    raise ResourceError(
        f"this machine has no usable CUDA device {index}",
        got=f"device={name!r}; {n_devices} CUDA devices; PyTorch {torch.__version__}, {build}",
        do="use device='auto' or 'cpu', or install a PyTorch build for your GPU's driver",
    )


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute float32 in full inside the block, whatever the caller has allowed outside.

    TF32 and bfloat16 shortcuts move responses by more than the 1e-4 that devices agree to.
    PyTorch's settings are global; the first thread to enter changes them, and the last to
    leave puts every one back.
    """
    global _n_inside, _settings_outside
    with _lock:
        if not _n_inside:
            _settings_outside = _change_settings()
        _n_inside += 1
    try:
        yield
    finally:
        with _lock:
            _n_inside -= 1
            if not _n_inside:
                for put_back in _settings_outside:
                    put_back()


_lock = threading.Lock()
_n_inside = 0
_settings_outside: list[Callable[[], None]] = []


def _change_settings() -> list[Callable[[], None]]:
    """Set every precision to full; return what puts each back."""
    backends: Any = torch.backends
    put_back: list[Callable[[], None]] = []

    def change(backend: Any, name: str, value: object) -> None:
        put_back.append(partial(setattr, backend, name, getattr(backend, name)))
        setattr(backend, name, value)

    if hasattr(backends.cuda.matmul, "fp32_precision"):  # PyTorch 2.9 and later
        for backend in (
            *(backends.cuda.matmul, backends.cudnn.conv),
            *(backends.mkldnn.matmul, backends.mkldnn.conv),
        ):
            change(backend, "fp32_precision", "ieee")
    else:
        change(backends.cudnn, "allow_tf32", False)
        before = torch.get_float32_matmul_precision()
        put_back.append(partial(torch.set_float32_matmul_precision, before))
        torch.set_float32_matmul_precision("highest")
    return put_back
