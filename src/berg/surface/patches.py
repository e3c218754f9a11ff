"""Contiguous patches on a mesh: who neighbours whom, and growth from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Any

import numpy as np
import numpy.typing as npt

from berg.errors import InvalidParameterError


@dataclass(frozen=True)
class Neighbours:
    """Which vertices share an edge, in compressed rows.

    Attributes
    ----------
    indptr : numpy.ndarray of int64, shape (n_vertices + 1,)
        Vertex v's neighbours are ``indices[indptr[v]:indptr[v + 1]]``, in ascending order.
    indices : numpy.ndarray of int32, shape (2 * n_edges,)
        Vertex indices.
    """

    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[np.int32]

    def of(self, vertex: int) -> list[int]:
        """Return the neighbours of one vertex."""
        neighbours: list[int] = self.indices[self.indptr[vertex] : self.indptr[vertex + 1]].tolist()
        return neighbours


def grow_patch(
    mesh: Neighbours,
    priority: npt.NDArray[np.floating[Any]],
    seed: int,
    size: int,
    allowed: npt.NDArray[np.bool_] | None = None,
) -> npt.NDArray[np.int64]:
    """Grow a contiguous patch of exactly so many vertices from a seed.

    Of all vertices that touch the patch, the one of lowest priority value joins next.

    Parameters
    ----------
    mesh : Neighbours
        Which vertices share an edge.
    priority : numpy.ndarray of floating dtype, shape (n_vertices,)
        Lower joins earlier, for example a distance from the seed. Ties go to the lower index.
    seed : int
        First vertex of the patch.
    size : int
        Number of vertices wanted; 0 gives an empty patch.
    allowed : numpy.ndarray of bool, shape (n_vertices,), optional
        Vertices that the patch may take; all by default.

    Returns
    -------
    numpy.ndarray of int64, shape (size,)
        Sorted vertex indices.

    Raises
    ------
    InvalidParameterError
        The size is negative, the seed is not allowed, or fewer vertices can be reached.
    """
    if size <= 0:
        if size < 0:
            raise InvalidParameterError(
                "a patch cannot have a negative size", got=str(size), accepted="0 or more"
            )
        return np.empty(0, dtype=np.int64)
    # `open_` marks what may still join the queue; every vertex enters it once.
    open_ = np.ones(len(priority), dtype=bool) if allowed is None else allowed.copy()
    front: list[tuple[float, int]] = []
    patch: list[int] = []
    if open_[seed]:
        front.append((float(priority[seed]), int(seed)))
        open_[seed] = False
    while front and len(patch) < size:
        vertex = heappop(front)[1]
        patch.append(vertex)
        for other in mesh.of(vertex):
            if open_[other]:
                open_[other] = False
                heappush(front, (float(priority[other]), other))
    if len(patch) < size:
        raise InvalidParameterError(
            "the patch cannot reach its size inside the allowed vertices",
            got=f"{len(patch)} of {size} vertices reached from seed {seed}",
            do="ask for a smaller patch, or allow more vertices",
        )
    return np.sort(np.asarray(patch, dtype=np.int64))
