"""What a machine has and may use, and bytes as a person reads them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from berg.errors import OfflineError


def check_online(do: str) -> None:
    """Raise unless the network may be used: the environment variable ``BERG_OFFLINE`` forbids it.

    Parameters
    ----------
    do : str
        What to do without it.

    Raises
    ------
    OfflineError
        If ``BERG_OFFLINE`` is set, to anything but 0.
    """
    if (value := os.environ.get("BERG_OFFLINE", "0")) not in ("", "0"):
        raise OfflineError(
            "the network is needed, and BERG_OFFLINE forbids it",
            got=f"BERG_OFFLINE={value}",
            accepted="BERG_OFFLINE=0, or not set",
            do=do,
        )


def free_disk_bytes(path: str | os.PathLike[str]) -> int:
    """Return how much space is free on the disk that a file or folder is on, or will be on.

    Parameters
    ----------
    path : path-like
        Neither it nor the folders that lead to it need exist.

    Returns
    -------
    int
        In bytes.
    """
    path = Path(path).absolute()
    existing = next(each for each in (path, *path.parents) if os.path.exists(each))
    return shutil.disk_usage(existing).free


def show_bytes(n_bytes: float) -> str:
    """Return a number of bytes as a person reads it.

    Examples
    --------
    >>> [show_bytes(n) for n in (0, 999, 1500, 2.5e6, 1.3e12)]
    ['0 B', '999 B', '1.5 kB', '2.5 MB', '1.3 TB']
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} B" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.1f} TB"
