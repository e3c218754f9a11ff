"""Images to a GPU and responses from it, while it computes.

A copy to or from a GPU goes on by itself only if the computer's side of it lies in memory that the
system may not move ("pinned"), and on a queue ("stream") of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

# Vertices whose responses come back in one copy: 32 MB for 512 images.
_VERTEX_BLOCK = 16_384


def send_ahead(batches: Iterable[torch.Tensor], device: torch.device) -> Iterator[torch.Tensor]:
    """Prepare the next batch, and send it, while the device works on this one.

    Parameters
    ----------
    batches : iterable of torch.Tensor
        Each is made when it is asked for, in a thread, with the device's side stream current.
    device : torch.device

    Yields
    ------
    torch.Tensor
        The batches, in order and safe to use on the caller's stream.
    """
    module, source = _module(device), iter(batches)
    side: Any = module.Stream(*([device] if device.type == "cuda" else []))

    def prepare() -> torch.Tensor | None:
        with module.stream(side):
            return next(source, None)

    with ThreadPoolExecutor(1, thread_name_prefix="berg send") as thread:
        coming = thread.submit(prepare)
        while (batch := coming.result()) is not None:
            current = module.current_stream(device)
            current.wait_stream(side)
            if batch.device.type == "cuda":
                batch.record_stream(current)  # its memory is not given away before it was used
            coming = thread.submit(prepare)
            yield batch


def read_out_elsewhere(
    scores: torch.Tensor, coef: torch.Tensor, intercept: torch.Tensor, out: torch.Tensor
) -> None:
    """Compute responses on a device, and bring a block back while the next one is computed.

    Parameters
    ----------
    scores : torch.Tensor of float32, shape (n_images, n_components)
    coef : torch.Tensor of float32, shape (n_vertices, n_components)
    intercept : torch.Tensor of float32, shape (n_vertices,)
        On one device, all three.
    out : torch.Tensor of float32, shape (n_images, n_vertices)
        In the computer's memory; overwritten.
    """
    module = _module(scores.device)
    n_images, n_vertices = out.shape
    pinned = scores.device.type == "cuda"
    n_landing = n_images * min(_VERTEX_BLOCK, n_vertices)
    landings = [torch.empty(n_landing, dtype=scores.dtype, pin_memory=pinned) for _ in range(2)]
    on_the_way: list[tuple[slice, torch.Tensor, Any]] = []

    def land() -> None:
        part, landed, event = on_the_way.pop(0)
        event.synchronize()
        out[:, part] = landed

    for i_block, start in enumerate(range(0, n_vertices, _VERTEX_BLOCK)):
        part = slice(start, min(start + _VERTEX_BLOCK, n_vertices))
        responses = torch.addmm(intercept[part], scores, coef[part].T)
        landing = landings[i_block % 2][: responses.numel()].view(responses.shape)
        landing.copy_(responses, non_blocking=True)
        event = module.Event()
        event.record(module.current_stream(scores.device))
        on_the_way.append((part, landing, event))
        if len(on_the_way) == 2:
            land()
    while on_the_way:
        land()


def _module(device: torch.device) -> Any:
    """Return the functions for a device's streams: those for a CPU do nothing, and are tested."""
    return torch.get_device_module(device)
