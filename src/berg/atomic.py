"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from berg.errors import BERGError, ResourceError


@contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that takes its place when the block ends well.

    Parameters
    ----------
    path : path-like
        What to write. Its folder is created if need be; an older file stays as it is until
        the new one is complete.

    Yields
    ------
    binary file, open for writing

    Raises
    ------
    ResourceError
        If the file cannot be written: no space, no permission. Nothing is left behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
        os.replace(temporary, path)
    except BERGError:
        raise
    except OSError as err:
        raise ResourceError(
            f"{path} cannot be written.",
            got=str(err),
            do="make space, or choose a folder that you may write to",
        ) from err
    finally:
        with suppress(OSError):  # it may not exist, nor even its folder
            temporary.unlink()
