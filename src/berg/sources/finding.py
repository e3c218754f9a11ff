"""What images there are: in files, folders, lists, arrays, HDF5 datasets and shards."""

from __future__ import annotations

import os
import stat
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from berg.errors import BERGError, ImageFileError, InvalidParameterTypeError, warn
from berg.sources import arrays, folders, hdf5, lists, shards
from berg.sources.braces import expand_braces, has_braces
from berg.sources.collection import (
    ArrayPart,
    Container,
    FilePart,
    ImageCollection,
    PackedNames,
    Part,
    ShardPart,
)
from berg.sources.folders import Status, look_up
from berg.sources.photos import ACCEPTED, SUFFIXES, check_may_be_photo

_MOST_NAMED = 5  # files that a message names
_FILES_OF_A_PART = 65_536  # whose names are then packed
# Headers are parsed by one thread at a time, but a network disk lets each wait: with 0.5 ms a
# read, four threads list shards in a quarter of one's time (measured).
_SHARDS_AT_ONCE = 4

# A source, and where it was named: "", or the line of a list.
_Asked = tuple[str, str]


def find_images(sources: Sequence[str | os.PathLike[str]]) -> ImageCollection:
    """List the images that sources hold, without reading those of files, HDF5 and shards.

    Parameters
    ----------
    sources : sequence of path-like
        Any of these, in any mixture:

        - image files;
        - folders, searched with their subfolders for files with the suffixes of images,
          sorted by path; hidden files are left out. A folder without images but with
          shards stands for its shards;
        - lists (``.txt``) that name a source a line, from the list's own folder; blank
          lines and ``#`` comments are skipped;
        - ``.npy`` files of integers, shape (n_images, 3, height, width), height = width;
        - HDF5 datasets of integers, ``file.hdf5:dataset``, of shape (n_images, height,
          width, 3) or (n_images, 3, height, width); the file alone if it has only one;
        - uncompressed WebDataset shards (``.tar``), whose members with the suffixes of images
          are taken in order.

        Ranges in braces are expanded: ``shard-{000..012}.tar``.

    Returns
    -------
    ImageCollection
        In the order of the sources.

    Raises
    ------
    InvalidParameterTypeError
        If `sources` is a single path.
    ImageFileError
        If sources do not exist, which one error tells of all of them; if a folder, list or
        shard holds no image, or a file cannot be read.
    StimulusError
        If an array does not hold square RGB images.
    MissingExtraError
        If there is an HDF5 file, and h5py is not installed.

    Warns
    -----
    BERGWarning
        If a source is given twice, the images of an array are smaller than the network's input,
        or links in a folder lead nowhere.
    """
    if isinstance(sources, str | bytes | os.PathLike):
        raise InvalidParameterTypeError(
            "sources is a single path",
            got=repr(sources),
            accepted="a list of paths",
            do=f"find_images([{sources!r}])",
        )
    names = [str(Path(source)) for source in sources]
    if repeated := [name for name, n in Counter(names).items() if n > 1]:
        more = ", …" if len(repeated) > _MOST_NAMED else ""
        warn(
            "sources are given more than once, and so are their images: "
            f"{', '.join(repeated[:_MOST_NAMED])}{more}"
        )
    with ThreadPoolExecutor(_SHARDS_AT_ONCE) as pool:
        finder = _Finder(pool)
        try:
            finder.add((name, "") for name in names)
            return finder.collection()
        finally:
            pool.shutdown(cancel_futures=True)


class _Finder:
    """Parts of a collection, as sources are gone through."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._root = os.getcwd()
        self._pool = pool
        self._parts: list[Part | tuple[Future[ShardPart], str]] = []
        # Files that follow each other, until there are enough of them for a part
        self._names: list[str] = []
        self._sizes = array("q")
        self._mtimes_ns = array("q")
        self._missing: list[str] = []
        self._n_missing = 0

    def collection(self) -> ImageCollection:
        """Return what was added. Raises if anything was missing."""
        if self._n_missing:
            raise self._missing_error()
        self._end_files()
        parts: list[Part] = []
        for part in self._parts:
            if isinstance(part, tuple):
                indexing, where = part
                with _naming(where):
                    parts.append(indexing.result())
            else:
                parts.append(part)
        return ImageCollection(parts)

    def add(self, asked: Iterable[_Asked]) -> None:
        """Add sources in order."""
        for name, where in asked:
            status = look_up(name)
            if stat.S_ISREG(status.mode) and name.lower().endswith(SUFFIXES):
                self._add_file(name, status)
                continue
            with _naming(where):
                if status.mode:
                    self._add_other(name, where, status)
                else:
                    self._add_absent(name, where, status.problem)

    def _add_other(self, name: str, where: str, status: Status) -> None:
        """Add what exists, but is not an image file by its name."""
        suffix = os.path.splitext(name)[1].lower()
        if stat.S_ISDIR(status.mode):
            self._add_folder(name, where)
        elif not stat.S_ISREG(status.mode):
            raise ImageFileError(
                f"{name} is neither a file nor a folder",
                got="a device, pipe or socket",
                accepted=ACCEPTED,
                do="save the images as files",
            )
        elif suffix == lists.SUFFIX:
            self._add_list(name, where)
        elif suffix == arrays.SUFFIX:
            self._add_rows(arrays.find_rows(self._container(name, status)))
        elif hdf5.split_name(name) is not None:
            self._add_rows(hdf5.find_rows(self._container(name, status), None))
        elif suffix == shards.SUFFIX:
            container = self._container(name, status)
            self._add_part((self._pool.submit(shards.index_shard, container), where))
        else:
            shards.check_not_compressed(name)
            check_may_be_photo(name)
            self._add_file(name, status)  # perhaps an image: reading it will tell

    def _add_absent(self, name: str, where: str, problem: str) -> None:
        """Add what a name stands for that is not a path, or note that there is nothing."""
        if has_braces(name):
            self.add((expanded, where) for expanded in expand_braces(name))
            return
        path, dataset = hdf5.split_name(name) or (name, None)
        if dataset is not None and (status := look_up(path)).mode:
            self._add_rows(hdf5.find_rows(self._container(path, status), dataset))
            return
        self._n_missing += 1
        if len(self._missing) < _MOST_NAMED:
            told = ", ".join(text for text in (where, problem) if text)
            self._missing.append(f"{name} ({told})" if told else name)

    def _add_list(self, name: str, where: str) -> None:
        if where:
            raise ImageFileError(
                f"the list {name} is named by a list",
                got="a list within a list",
                accepted="lists that name images, folders, arrays and shards",
                do="name both lists as sources",
            )
        self.add((source, f"line {line} of {name}") for line, source in lists.read_list(name))

    def _add_folder(self, name: str, where: str) -> None:
        folder = folders.search(name)
        if not folder.images and folder.shards:
            self.add((shard, where) for shard in folder.shards)
            return
        n_images = 0
        broken = []
        for path in folder.images:
            status = look_up(path)
            if stat.S_ISREG(status.mode):
                self._add_file(path, status)
                n_images += 1
            elif not status.mode:
                broken.append(path)
        if not n_images:
            raise ImageFileError(
                f"no images in the folder {name}",
                got=f"{folder.n_others + len(folder.images)} other files and folders",
                accepted=ACCEPTED,
                do="check the path; .npy and HDF5 files are named one by one, not by their folder",
            )
        if broken:
            warn(
                f"{len(broken)} of {n_images + len(broken)} images in the folder {name} are links "
                f"that lead nowhere, and are left out: {broken[0]}"
            )

    def _container(self, name: str, status: Status) -> Container:
        path = os.path.join(self._root, name)
        return Container(name, path, status.size, status.mtime_ns)

    def _add_file(self, name: str, status: Status) -> None:
        self._names.append(name)
        self._sizes.append(status.size)
        self._mtimes_ns.append(status.mtime_ns)
        if len(self._names) == _FILES_OF_A_PART:
            self._end_files()

    def _add_rows(self, part: ArrayPart) -> None:
        if not len(part):
            raise ImageFileError(
                f"there are no images in {part.name}",
                got="an array of length 0",
                accepted=ACCEPTED,
                do="leave it out, or see that what wrote it was done",
            )
        self._add_part(part)

    def _add_part(self, part: Part | tuple[Future[ShardPart], str]) -> None:
        self._end_files()
        self._parts.append(part)

    def _end_files(self) -> None:
        if self._names:
            numbers = (np.array(values, np.int64) for values in (self._sizes, self._mtimes_ns))
            self._parts.append(FilePart(self._root, PackedNames(self._names), *numbers))
            self._names.clear()
            del self._sizes[:], self._mtimes_ns[:]

    def _missing_error(self) -> ImageFileError:
        n_more = self._n_missing - len(self._missing)
        more = f" and {n_more:,} more" if n_more else ""
        several = f"there are no {self._n_missing:,} of the files or folders: "
        problem = "there is no file or folder " if self._n_missing == 1 else several
        return ImageFileError(
            f"{problem}{', '.join(self._missing)}{more}",
            got=f"working in {self._root}",
            accepted=ACCEPTED,
            do="check the spelling of the path",
        )


@contextmanager
def _naming(where: str) -> Iterator[None]:
    """Have errors say in which line of a list a source was named."""
    try:
        yield
    except BERGError as error:
        if not where or str(error).startswith(where):
            raise
        raise type(error)(f"{where}: {error}") from error
