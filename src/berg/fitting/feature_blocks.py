"""What is fitted to: features of images, in memory or on disk, a block of columns at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from berg.errors import InvalidParameterError

Floats = npt.NDArray[np.floating]

BLOCK_BYTES = 8 * 2**20  # of an array in memory; measured faster than 64 MiB, for the cache


class StoredFeatures(Protocol):
    """A feature matrix that is read in blocks of columns."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of images, number of features."""

    def __getitem__(self, index: tuple[slice, slice], /) -> npt.NDArray[np.float32]:
        """Read some columns of some images."""

    def blocks(self) -> Iterable[slice]:
        """Slices of columns in which the matrix is best read; together they are all columns."""


FeatureMatrix: TypeAlias = Floats | StoredFeatures


def column_blocks(features: FeatureMatrix) -> list[slice]:
    """Cut the columns of a feature matrix into slices to work on one after the other.

    Parameters
    ----------
    features : (n_images, n_features) matrix
        An array, or anything with ``shape``, ``blocks()`` and ``features[:, columns]``.

    Returns
    -------
    list of slice
        The matrix's own blocks; of an array, what is 8 MiB in float64.
    """
    if isinstance(features, np.ndarray):
        return array_blocks(features)
    return list(features.blocks())


def array_blocks(array: npt.NDArray[Any]) -> list[slice]:
    """Cut the columns of an array into slices whose float64 copy has a bounded size.

    Parameters
    ----------
    array : (n_rows, n_columns) array

    Returns
    -------
    list of slice
    """
    n_rows, n_columns = array.shape
    width = max(1, BLOCK_BYTES // (8 * max(n_rows, 1)))
    return [slice(start, min(start + width, n_columns)) for start in range(0, n_columns, width)]


def check_features(features: FeatureMatrix) -> tuple[int, int]:
    """Return the shape of a feature matrix of at least two images.

    Parameters
    ----------
    features : (n_images, n_features) matrix

    Returns
    -------
    n_images, n_features : int

    Raises
    ------
    InvalidParameterError
        If it is no matrix, has fewer than two rows, or no columns.
    """
    if len(features.shape) != 2 or features.shape[0] < 2 or features.shape[1] == 0:
        raise InvalidParameterError(
            "not a feature matrix to fit on",
            got=f"shape {features.shape}",
            accepted="(n_images, n_features), two images at least",
        )
    return features.shape[0], features.shape[1]
