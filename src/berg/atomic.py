"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from berg.errors import BERGError, InvalidParameterError, ResourceError

TEMPORARY_NAME = re.compile(r"\..+\.[0-9a-f]{16}\.part")
"""Names of the hidden files that take others' places when they are whole."""


def check_output_path(path: str | os.PathLike[str], what: str, *suffixes: str) -> Path:
    """Return the path if a file can be written under it: asked before the work, not after it.

    Parameters
    ----------
    path : path-like
    what : str
        What is to be written: ``"responses"``.
    *suffixes : str
        What its name may end in; the first is proposed.

    Returns
    -------
    Path

    Raises
    ------
    InvalidParameterError
        If it ends in none of these or is a folder.
    ResourceError
        If its folder cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes or path.is_dir():
        raise InvalidParameterError(
            f"{what} cannot be written as {path}",
            got="a folder" if path.is_dir() else f"a name that ends in {path.suffix!r}",
            accepted=f"a file name that ends in {suffixes[0]}",
            do=f"for example --out {what.split()[-1]}{suffixes[0]}",
        )
    existing = next(folder for folder in path.absolute().parents if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise ResourceError(
            f"{path} cannot be written",
            got=f"{existing} is " + ("not writable" if existing.is_dir() else "not a folder"),
            do="choose a folder that you may write to",
        )
    return path


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
    OSError
        As the block raises it, of another file: one that cannot be read.
    """
    path = Path(path)
    # Another name for each thread and process. `tempfile` would make the file its owner's alone,
    # where what the block creates has the permissions that the user's umask gives.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # or a power cut may leave the new name on an empty file
        os.replace(temporary, path)
    except BERGError:
        raise
    except OSError as err:
        written = map(str, (temporary, *temporary.parents))
        if err.filename is not None and str(err.filename) not in written:
            raise
        raise ResourceError(
            f"{path} cannot be written",
            got=str(err),
            accepted="a folder with space, in which you may write",
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
    with replace_atomically(path) as temporary, temporary.open("xb") as file:
        yield file
