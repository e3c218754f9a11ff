"""Large results: made, or refused with what they take, before hours of work or a crash."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from berg.errors import ResourceError
from berg.resources import show_bytes


def check_memory(n_bytes: int, what: str, do: str) -> None:
    """Refuse what is larger than the memory that is free.

    Without psutil, which is optional, nothing is known and nothing refused.

    Parameters
    ----------
    n_bytes : int
    what : str
        Named in the message, in the plural.
    do : str
        What to do instead.

    Raises
    ------
    ResourceError
        If it does not fit. Linux promises more memory than there is, and ends the process that
        uses it: a MemoryError comes only for what exceeds the whole machine.
    """
    with suppress(ImportError):
        import psutil

        available = psutil.virtual_memory().available
        if n_bytes > available:
            raise _too_large(n_bytes, what, do, f"{show_bytes(available)} are free")


def allocate(shape: tuple[int, ...], dtype: DTypeLike, what: str, do: str) -> NDArray[Any]:
    """Return an array to be filled, or say that it does not fit into memory.

    Parameters
    ----------
    shape : tuple of int
    dtype : dtype
    what, do : str
        As `check_memory` takes them.

    Returns
    -------
    numpy.ndarray
        Not initialised.

    Raises
    ------
    ResourceError
        If it does not fit.
    """
    n_bytes = int(np.prod(shape, dtype=object)) * np.dtype(dtype).itemsize
    check_memory(n_bytes, what, do)
    try:
        return np.empty(shape, dtype)
    except (MemoryError, ValueError) as err:  # ValueError: more than an index can count
        raise _too_large(n_bytes, what, do, str(err)) from err


def _too_large(n_bytes: int, what: str, do: str, found: str) -> ResourceError:
    return ResourceError(
        f"{what} do not fit into memory",
        got=f"{show_bytes(n_bytes)} needed; {found}",
        do=do,
    )
