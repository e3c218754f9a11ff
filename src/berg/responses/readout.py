"""The regression of a model: from an image's scores to the responses of vertices."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from berg.errors import InvalidParameterError, InvalidParameterTypeError

Hemisphere = Literal["lh", "rh"]
HEMISPHERES: tuple[Hemisphere, Hemisphere] = ("lh", "rh")

# Vertices that are converted to float64 together: 2 MB for 250 components, which stay in the
# processor's cache.
_VERTEX_BLOCK = 1024

Rows = slice | NDArray[np.int64]

# One for all readouts: a lock of each one's own could not be pickled with it. A function that loads
# one may need another.
_LOADING = threading.RLock()


@dataclass(frozen=True, eq=False)
class Gram:
    """Sums over vertices of X = [coef, intercept], one row a vertex.

    Parameters
    ----------
    products : numpy.ndarray of float64, shape (n_components + 1, n_components + 1)
        ``X.T @ X``.
    total : numpy.ndarray of float64, shape (n_components + 1,)
        ``X.sum(axis=0)``.
    n_vertices : int
    """

    products: NDArray[np.float64]
    total: NDArray[np.float64]
    n_vertices: int


@dataclass(frozen=True, eq=False)
class Readout:
    """What turns scores into responses: ``response = coef @ scores + intercept``.

    The arrays are kept as read-only views of those given, without a copy.

    Parameters
    ----------
    lh_coef, rh_coef : numpy.ndarray of float32, shapes (n_lh, n_components), (n_rh, n_components)
    lh_intercept, rh_intercept : numpy.ndarray of float32, shapes (n_lh,), (n_rh,)
        In z-scored units.
    lh_vertices, rh_vertices : numpy.ndarray of int64, shapes (n_lh,), (n_rh,)
        The vertices of the mesh (0-based) that the rows stand for.

    Raises
    ------
    InvalidParameterError
        If the shapes or dtypes do not fit together.
    """

    lh_coef: NDArray[np.float32]
    lh_intercept: NDArray[np.float32]
    rh_coef: NDArray[np.float32]
    rh_intercept: NDArray[np.float32]
    lh_vertices: NDArray[np.int64]
    rh_vertices: NDArray[np.int64]

    def __post_init__(self) -> None:
        for field in fields(self):
            view = np.asarray(getattr(self, field.name)).view()
            view.flags.writeable = False
            object.__setattr__(self, field.name, view)
        for hemi in HEMISPHERES:
            n_vertices = len(self.vertices(hemi))
            self._check(f"{hemi}_coef", np.float32, (n_vertices, self.n_components))
            self._check(f"{hemi}_intercept", np.float32, (n_vertices,))
            self._check(f"{hemi}_vertices", np.int64, (n_vertices,))

    def _check(self, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> None:
        array = getattr(self, name)
        if array.dtype != dtype or array.shape != shape:
            raise InvalidParameterError(
                f"{name} does not fit into this readout",
                got=f"array of shape {array.shape}, {array.dtype}",
                accepted=f"array of shape {shape}, {np.dtype(dtype)}",
                do="give coefficients (n_vertices, n_components), intercepts and vertices "
                "(n_vertices,) of both hemispheres",
            )

    @property
    def n_components(self) -> int:
        """Number of scores of an image."""
        return int(self.lh_coef.shape[-1])

    def coef(self, hemi: Hemisphere) -> NDArray[np.float32]:
        """Return a hemisphere's coefficients, float32, shape (n_vertices, n_components)."""
        return self.lh_coef if hemi == "lh" else self.rh_coef

    def intercept(self, hemi: Hemisphere) -> NDArray[np.float32]:
        """Return a hemisphere's intercepts, float32, shape (n_vertices,)."""
        return self.lh_intercept if hemi == "lh" else self.rh_intercept

    def vertices(self, hemi: Hemisphere) -> NDArray[np.int64]:
        """Return a hemisphere's vertices, int64, shape (n_vertices,)."""
        return self.lh_vertices if hemi == "lh" else self.rh_vertices

    @property
    def n_vertices(self) -> int:
        """Number of vertices of both hemispheres together."""
        return len(self.lh_vertices) + len(self.rh_vertices)

    def take(self, lh_rows: Rows, rh_rows: Rows) -> Readout:
        """Return the readout of some of the vertices.

        Parameters
        ----------
        lh_rows, rh_rows : slice or numpy.ndarray of int64
            Rows of either hemisphere's arrays. A slice takes views, an array copies.

        Returns
        -------
        Readout
        """
        return Readout(
            lh_coef=self.lh_coef[lh_rows],
            lh_intercept=self.lh_intercept[lh_rows],
            rh_coef=self.rh_coef[rh_rows],
            rh_intercept=self.rh_intercept[rh_rows],
            lh_vertices=self.lh_vertices[lh_rows],
            rh_vertices=self.rh_vertices[rh_rows],
        )

    def blocks(
        self, *hemispheres: Hemisphere
    ) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
        """Give the coefficients and intercepts in float64, a block of vertices at a time.

        Parameters
        ----------
        *hemispheres : {"lh", "rh"}
            Both if none is given.

        Yields
        ------
        coef : numpy.ndarray of float64, shape (n_block, n_components)
        intercept : numpy.ndarray of float64, shape (n_block,)
        """
        for hemi in hemispheres or HEMISPHERES:
            coef, intercept = self.coef(hemi), self.intercept(hemi)
            for start in range(0, len(coef), _VERTEX_BLOCK):
                part = slice(start, start + _VERTEX_BLOCK)
                yield coef[part].astype(np.float64), intercept[part].astype(np.float64)

    def mean_vertex(self) -> tuple[NDArray[np.float64], float]:
        """Return what gives the mean response of all vertices: their mean coefficients.

        Returns
        -------
        coef : numpy.ndarray of float64, shape (n_components,)
        intercept : float
            Both NaN if there are no vertices.
        """
        if not self.n_vertices:
            return np.full(self.n_components, np.nan), float("nan")
        coef, intercept = np.zeros(self.n_components), 0.0
        for block_coef, block_intercept in self.blocks():
            coef += block_coef.sum(axis=0)
            intercept += float(block_intercept.sum())
        return coef / self.n_vertices, intercept / self.n_vertices

    def gram(
        self,
        rois: tuple[str, ...] = (),
        lh_rows: NDArray[np.int64] | None = None,
        rh_rows: NDArray[np.int64] | None = None,
    ) -> Gram:
        """Sum products of coefficients and intercepts over vertices of both hemispheres.

        They are computed once for every region, whatever images are asked about.

        Parameters
        ----------
        rois : tuple of str
            What the region is remembered as: 0.5 MB each.
        lh_rows, rh_rows : numpy.ndarray of int64, optional
            Its rows of either hemisphere's arrays; all by default.

        Returns
        -------
        Gram
        """
        if rois not in self._grams:
            self._grams[rois] = self._sum_products(lh_rows, rh_rows)
        return self._grams[rois]

    @cached_property
    def _grams(self) -> dict[tuple[str, ...], Gram]:
        return {}

    def _sum_products(
        self, lh_rows: NDArray[np.int64] | None, rh_rows: NDArray[np.int64] | None
    ) -> Gram:
        k = self.n_components
        # The last column stays 1: the products with it are the sums, and the number of vertices.
        block = np.ones((_VERTEX_BLOCK, k + 2))
        products = np.zeros((k + 2, k + 2))
        for hemi, rows in zip(HEMISPHERES, (lh_rows, rh_rows), strict=True):
            coef, intercept = self.coef(hemi), self.intercept(hemi)
            n_vertices = len(coef) if rows is None else len(rows)
            for start in range(0, n_vertices, _VERTEX_BLOCK):
                part: Rows = slice(start, start + _VERTEX_BLOCK)
                part = part if rows is None else rows[part]
                part_coef = coef[part]
                filled = block[: len(part_coef)]
                filled[:, :k], filled[:, k] = part_coef, intercept[part]
                products += filled.T @ filled
        products.flags.writeable = False
        return Gram(products[:-1, :-1], products[:-1, -1], int(products[-1, -1]))


class LazyReadout:
    """A readout, or what loads it when it is first needed.

    Parameters
    ----------
    given : Readout, or callable that returns one
    n_components : int
        Scores of an image, which the readout must suit.

    Raises
    ------
    InvalidParameterTypeError
        If it is neither.
    InvalidParameterError
        If a readout does not suit the scores; of a callable, when it is called.
    """

    def __init__(self, given: Readout | Callable[[], Readout], n_components: int) -> None:
        if not isinstance(given, Readout) and not callable(given):
            raise InvalidParameterTypeError(
                "readout is neither a readout nor a function that returns one",
                got=f"{type(given).__name__}: {given!r}"[:200],
                accepted="a Readout, or a function without arguments",
                do="model.readout is a model's",
            )
        self._n_components = n_components
        self._given = self._checked(given) if isinstance(given, Readout) else given

    @property
    def is_loaded(self) -> bool:
        """Whether it was needed already."""
        return isinstance(self._given, Readout)

    def load(self) -> Readout:
        """Return the readout; load it if this has not happened yet, once in all threads."""
        given = self._given
        if isinstance(given, Readout):
            return given
        with _LOADING:
            if not isinstance(self._given, Readout):  # another thread may have been first
                self._given = self._checked(self._given())
            return self._given

    def _checked(self, readout: Readout) -> Readout:
        if readout.n_components != self._n_components:
            raise InvalidParameterError(
                "scores and readout are not of the same model",
                got=f"{self._n_components} scores an image, "
                f"a readout of {readout.n_components} components",
                accepted="as many scores as components",
                do="use the readout of the model that the scores come from",
            )
        return readout
