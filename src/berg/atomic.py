"""Files that are written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from berg.errors import BERGError, ResourceError


@contextmanager
def replace_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path` whose file takes its place when the block ends well.

    Parameters
    ----------
    path : path-like
        What to write. Its folder is created if need be; an older file stays as it is until
        the new one is complete.

    Yields
    ------
    Path
        Where to write instead.

    Raises
    ------
    ResourceError
        If the file cannot be written: no space, no permission. Nothing is left behind.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except BERGError:
        raise
    except OSError as err:
        raise ResourceError(
            f"{path} cannot be written",
            got=str(err),
            do="make space, or choose a folder that you may write to",
        ) from err
    finally:
        with suppress(OSError):  # it may not exist, nor even its folder
            temporary.unlink()


@contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file that takes the place of `path` when the block ends well.

    Parameters
    ----------
    path : path-like
        As for `replace_atomically`.

    Yields
    ------
    binary file, open for writing

    Raises
    ------
    ResourceError
        If the file cannot be written. Nothing is left behind.
    """
    with replace_atomically(path) as temporary, temporary.open("wb") as file:
        yield file
