"""Files that take space: refused before they are begun, folders whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from berg.errors import BERGError, InvalidParameterError, ResourceError
from berg.resources import free_disk_bytes, show_bytes


def check_space(folder: str | os.PathLike[str], n_bytes: int, what: str) -> None:
    """Refuse what the disk cannot hold.

    Parameters
    ----------
    folder : path-like
        Where it is to be written; need not exist.
    n_bytes : int
        How much is to be written.
    what : str
        Named in the message, in the plural.

    Raises
    ------
    ResourceError
        If less is free.
    """
    free = free_disk_bytes(folder)
    if n_bytes > free:
        raise ResourceError(
            f"{what} do not fit on the disk of {folder}",
            got=f"{show_bytes(free)} free",
            accepted=f"{show_bytes(n_bytes)} free",
            do="make space, choose another disk, or select fewer images or vertices",
        )


@contextmanager
def new_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary folder that gets the name `path` when the block ends well.

    Parameters
    ----------
    path : path-like
        What to write; must not exist.

    Yields
    ------
    Path
        A folder, still to be made, to write instead.

    Raises
    ------
    InvalidParameterError
        If there is something of this name already.
    ResourceError
        If it cannot be written: no space, no permission. Nothing is left behind.
    """
    path = Path(path)
    if path.exists():
        raise InvalidParameterError(
            f"{path} exists already",
            got="a folder" if path.is_dir() else "a file",
            accepted="a name that is not taken",
            do="choose another name, or remove what is there",
        )
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.rename(temporary, path)
    except BERGError:
        raise
    except OSError as err:
        raise ResourceError(
            f"{path} cannot be written",
            got=str(err),
            accepted="a folder with space, in which you may write",
            do="make space, or choose a folder that you may write to",
        ) from err
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
