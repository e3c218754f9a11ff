"""Which device computes, and at which precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from berg.errors import (
    InvalidParameterError,
    InvalidParameterTypeError,
    ResourceError,
    did_you_mean,
)

ACCEPTED = ("auto", "cpu", "cuda", "mps")


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
            accepted=", ".join(ACCEPTED),
        )
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, colon, index = name.partition(":")
    if kind not in ACCEPTED[1:] or (colon and not (kind == "cuda" and index.isdecimal())):
        raise InvalidParameterError(
            f"there is no device {name!r}.{did_you_mean(name, ACCEPTED)}",
            accepted=", ".join(ACCEPTED),
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
    Every setting is put back on the way out.
    """
    backends: Any = torch.backends
    settings: list[tuple[Any, str, object]]
    if hasattr(backends.cuda.matmul, "fp32_precision"):  # PyTorch 2.9 and later
        settings = [
            (backends.cuda.matmul, "fp32_precision", "ieee"),
            (backends.cudnn.conv, "fp32_precision", "ieee"),
            (backends.mkldnn.matmul, "fp32_precision", "ieee"),
            (backends.mkldnn.conv, "fp32_precision", "ieee"),
        ]
        matmul_precision = None
    else:
        settings = [(backends.cudnn, "allow_tf32", False)]
        matmul_precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
    before = [getattr(backend, name) for backend, name, _ in settings]
    try:
        for backend, name, value in settings:
            setattr(backend, name, value)
        yield
    finally:
        for (backend, name, _), value in zip(settings, before, strict=True):
            setattr(backend, name, value)
        if matmul_precision is not None:
            torch.set_float32_matmul_precision(matmul_precision)
