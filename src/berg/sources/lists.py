"""List files: one source a line."""

from __future__ import annotations

import os
from collections.abc import Iterator

from berg.errors import ImageFileError

SUFFIX = ".txt"
_ACCEPTED = "a text file (UTF-8) that names one source a line, from its own folder"


def read_list(name: str) -> Iterator[tuple[int, str]]:
    """Read the sources that a list names.

    Parameters
    ----------
    name : str
        Path of the list.

    Yields
    ------
    line : int
        Counted from 1.
    source : str
        What the line names; relative paths are led on from the list's folder, and ``~/``
        is the user's own. Blank lines and those that begin with ``#`` are left out.

    Raises
    ------
    ImageFileError
        If the list cannot be read, is not a text, or names nothing.
    """
    folder = os.path.dirname(name)
    n_sources = 0
    try:
        # A path may hold bytes that are not UTF-8: the system does not care.
        with open(name, encoding="utf-8-sig", errors="surrogateescape") as file:
            for number, line in enumerate(file, 1):
                source = line.strip()
                if not source or source.startswith("#"):
                    continue
                if "\0" in source:
                    raise ImageFileError(
                        f"the list {name} is not a text file",
                        got=f"a zero byte in line {number}",
                        accepted=_ACCEPTED,
                        do="save it as UTF-8",
                    )
                n_sources += 1
                if source.startswith("~/"):  # as a shell would: the user's own folder
                    source = os.path.expanduser(source)
                yield number, os.path.join(folder, source)
    except OSError as error:
        if isinstance(error, ImageFileError):
            raise
        raise ImageFileError(
            f"the list {name} cannot be read",
            got=str(error),
            accepted=_ACCEPTED,
            do="check its permissions",
        ) from error
    if not n_sources:
        raise ImageFileError(
            f"the list {name} names no source",
            got="only blank lines and comments",
            accepted=_ACCEPTED,
            do="check that it is the right file",
        )
