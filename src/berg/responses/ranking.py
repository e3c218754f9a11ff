"""The images that drive vertices most and least."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from berg.responses.images import ImageNames


@dataclass(frozen=True, eq=False)
class RankedImages:
    """Images in the order of their mean responses.

    Parameters
    ----------
    indices : numpy.ndarray of int64, shape (n,)
        Places of the images among those that were ranked.
    names : tuple of str
    values : numpy.ndarray of float32, shape (n,)
        Mean responses in z-scored units.
    """

    indices: NDArray[np.int64]
    names: tuple[str, ...]
    values: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.indices)


@dataclass(frozen=True, eq=False)
class DrivingImages:
    """The images that drive vertices most and least.

    Parameters
    ----------
    most : RankedImages
        The strongest first.
    least : RankedImages
        The weakest first.
    """

    most: RankedImages
    least: RankedImages


def rank_images(
    mean_responses: Iterable[NDArray[np.float32]], names: ImageNames, n: int
) -> DrivingImages:
    """Find the images with the largest and the smallest mean responses.

    Memory is that of one block: no more than `n` images of either end are kept of all before.

    Parameters
    ----------
    mean_responses : iterable of numpy.ndarray of float32, shapes (n_block,)
        Of all images in order, a block at a time. Images with NaN are not ranked.
    names : ImageNames
    n : int
        How many images to find at either end; at most all are.

    Returns
    -------
    DrivingImages
        Of images with the same value, the earlier comes first.
    """
    nothing = np.empty(0, np.int64), np.empty(0, np.float32)
    most, least = nothing, nothing
    start = 0
    for values in mean_responses:
        defined = np.flatnonzero(~np.isnan(values))
        places, found = defined + start, values[defined]
        most = _largest(np.append(most[0], places), np.append(most[1], found), n)
        indices, negated = _largest(np.append(least[0], places), -np.append(least[1], found), n)
        least = indices, -negated
        start += len(values)
    return DrivingImages(_ranked(*most, names), _ranked(*least, names))


def _ranked(
    indices: NDArray[np.int64], values: NDArray[np.float32], names: ImageNames
) -> RankedImages:
    for array in (indices, values):
        array.flags.writeable = False
    return RankedImages(indices, names.take(indices).all, values)


def _largest(
    indices: NDArray[np.int64], values: NDArray[np.float32], n: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the `n` largest values, descending, without sorting the others."""
    if len(values) > n:
        limit = np.partition(values, len(values) - n)[len(values) - n]
        above = np.flatnonzero(values > limit)
        equal = np.flatnonzero(values == limit)[: n - len(above)]
        kept = np.sort(np.concatenate([above, equal]))
        indices, values = indices[kept], values[kept]
    order = np.argsort(-values, kind="stable")
    return indices[order], values[order]
