"""Zarr's files, each written whole and on the disk before its name is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from zarr.abc.store import Store
from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from berg.atomic import write_atomically


class DurableStore(LocalStore):
    """A folder on disk whose files are written as `berg.atomic.write_atomically` does.

    Zarr's own way leaves it to the system when the bytes reach the disk: after a power cut a
    file may have its name but be empty.
    """

    async def _open(self, **options: Any) -> None:
        """Do not make the folder, as Zarr does: the first file that is written in it does."""
        await Store._open(self, **options)

    def _ensure_open_sync(self) -> None:
        self._is_open = True

    async def set(self, key: str, value: Buffer) -> None:
        """Write a file."""
        await asyncio.to_thread(self.set_sync, key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        """Write a file; one of a chunk only into an array that is there."""
        array, is_chunk, _ = key.partition("/c/")
        if is_chunk and not (self.root / array / "zarr.json").exists():
            # Otherwise a folder that somebody removed would be made again.
            raise FileNotFoundError(f"{self.root / array} is gone")
        with write_atomically(self.root / key) as file:
            file.write(value.as_buffer_like())


def sync_folders(folders: Iterable[Path]) -> None:
    """Have the names of the files in some folders on the disk."""
    for folder in folders:
        # Not every file system (nor Windows) knows this of a folder; their names are on the
        # disk when the files are.
        with suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def remove_temporary_files(folder: Path) -> None:
    """Remove what `write_atomically` leaves in a folder when its process is killed."""
    for path in folder.glob(".*.part"):
        with suppress(OSError):  # another process may be quicker
            path.unlink()
