"""The model's resize: antialiased bilinear interpolation in float32, rounded to grey levels.

`interpolate` is one call of PyTorch. `resize_part` computes the same numbers on a CPU, bit for bit,
and of the resized images only the part that is kept.
"""

from __future__ import annotations

import math

import torch

# The largest array of floats of the images that are resized together: four of 425 px, one of
# 714×1360. They stay in the processor's cache. One image at a time takes up to a seventh less where
# the cores are free, but each step ends when the slower thread does: on two cores with as much
# other work, 9.4 to 17 ms an image in place of 4.9 to 7.6.
_CHUNK_BYTES = 8 << 20


def interpolate(images: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Interpolate images; nothing is rounded.

    Parameters
    ----------
    images : torch.Tensor of float32, shape (n_images, n_channels, height, width)
    size : (int, int)
        Height and width of the result, in pixels.

    Returns
    -------
    torch.Tensor of float32, shape (n_images, n_channels, *size)
    """
    return torch.nn.functional.interpolate(
        images, size=size, mode="bilinear", align_corners=False, antialias=True
    )


def resize_part(
    images: torch.Tensor, size: tuple[int, int], kept: tuple[slice, slice]
) -> torch.Tensor:
    """Resize uint8 images, and give a part of each.

    PyTorch interpolates along the rows and then along the columns, and computes each pixel of a
    pass by itself. A call for each pass therefore gives the numbers of one call for both, and
    spares what is not kept: rows that it does not need, and columns before the second pass.
    Memory counts as much: what one call for both passes asks of the system anew doubles its
    time (1.19 ms an image of 425 px, against 0.64 for the two passes; two cores).

    Parameters
    ----------
    images : torch.Tensor of uint8, shape (n_images, n_channels, height, width)
        On the CPU.
    size : (int, int)
        Height and width to resize to, in pixels.
    kept : (slice, slice)
        Rows and columns of the resized images that are returned, with a start and a stop.

    Returns
    -------
    torch.Tensor of uint8, shape (n_images, n_channels, n_rows_kept, n_columns_kept)
        ``interpolate(images.float(), size).round()[..., *kept]``, bit for bit.
    """
    n_images, n_channels, height, width = images.shape
    rows, columns = kept
    n_rows, n_columns = rows.stop - rows.start, columns.stop - columns.start
    read = _rows_read(height, size[0], rows)
    n_read = read.stop - read.start
    results = torch.empty((n_images, n_channels, n_rows, n_columns), dtype=torch.uint8)
    largest = max(n_read * max(width, size[1]), max(height, size[0]) * n_columns)
    together = max(_CHUNK_BYTES // (4 * n_channels * largest), 1)
    pixels = torch.empty((min(together, n_images), n_channels, n_read, width))
    # Rows that are not read stay zero: they are there for the scale, and nothing kept needs them.
    narrowed = torch.zeros((len(pixels), n_channels, height, n_columns))
    for start in range(0, n_images, together):
        part = images[start : start + together]
        n_part = len(part)
        given = pixels[:n_part].copy_(part[:, :, read])
        narrowed[:n_part, :, read] = interpolate(given, (n_read, size[1]))[..., columns]
        resized = interpolate(narrowed[:n_part], (size[0], n_columns))
        results[start : start + n_part] = resized[:, :, rows].round_()
    return results


def _rows_read(height: int, resized_height: int, rows: slice) -> slice:
    """Return the input rows that resized rows are interpolated from.

    PyTorch takes those whose centres lie within `support` of the resized row's centre. Rounding
    the bounds outward leaves half a row of slack, far more than the rounding of its float32.
    """
    scale = height / resized_height
    support = max(scale, 1.0)
    first = scale * (rows.start + 0.5) - support
    last = scale * (rows.stop - 0.5) + support
    return slice(max(math.floor(first), 0), min(math.ceil(last), height))
