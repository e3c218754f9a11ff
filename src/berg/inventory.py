"""What a berg_dir holds of every model and subject, and what may be deleted to free space.

Looking reads directories and, for whether a subject is simulated, the beginning of its metadata.
Weights, metadata, predictions, accuracy plots and stores are never among what may be deleted.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from berg.atomic import TEMPORARY_NAME
from berg.catalog import ModelCard, load_cards
from berg.downloads import find_interrupted
from berg.errors import BERGError, ResourceError
from berg.files import find_unreadable, list_folder
from berg.layout import (
    METADATA_FOLDER,
    WEIGHTS_FOLDER,
    as_berg_dir,
    cache_dir,
    cached_networks,
    cached_simulations,
)
from berg.locks import hold, is_free
from berg.metadata import simulated_n_vertices

# What processes that were killed leave behind, and the time after which none is at work on it.
_UNFINISHED_STAGE = ".unfinished-"
_UNFINISHED = re.compile(
    rf"{re.escape(_UNFINISHED_STAGE)}.+|\.simulating-.+|{TEMPORARY_NAME.pattern}"
)
_IDLE_SECONDS = 3600


@dataclass(frozen=True)
class SubjectOnDisk:
    """The files of one subject of a model.

    Attributes
    ----------
    model_id : str
    subject : int
        Counted from 1.
    bytes : dict of str to int
        Size of each file that is there, by its form: ``"npy"`` and ``"safetensors"`` of the
        weights, ``"metadata"``, ``"predictions"`` (all of them).
    simulated : bool or None
        None where there are no metadata that could say it, or they cannot be read.
    """

    model_id: str
    subject: int
    bytes: dict[str, int]
    simulated: bool | None


@dataclass(frozen=True)
class Freeable:
    """Files that may be deleted: they can be made or fetched again.

    Attributes
    ----------
    what : str
        What they are, for people.
    paths : tuple of Path
        Files or folders, that which names them first.
    bytes : int
        Space that they take.
    users : tuple of Path
        What a process that uses them has locked, one of these (see `berg.locks.hold`).
    only_idle : bool
        Whether they stay if something was written to them within the last hour.
    """

    what: str
    paths: tuple[Path, ...]
    bytes: int
    users: tuple[Path, ...] = ()
    only_idle: bool = False


@dataclass(frozen=True)
class Inventory:
    """What there is in a berg_dir and in the cache; `take_inventory` makes one.

    Attributes
    ----------
    berg_dir, cache_dir : Path
        They need not exist.
    subjects : list of SubjectOnDisk
        Those that have a file.
    plots : dict of str to tuple of int
        By model, how many accuracy plots there are, and their bytes.
    caches : list of Freeable
        The network, the simulated subject, what killed processes and stopped downloads left.
    training : list of Freeable
        What training prepared and keeps, so that it need not be made again.
    unreadable : list of Path
        Folders that may not be looked into: what is in them is not known.
    """

    berg_dir: Path
    cache_dir: Path
    subjects: list[SubjectOnDisk] = field(default_factory=list)
    plots: dict[str, tuple[int, int]] = field(default_factory=dict)
    caches: list[Freeable] = field(default_factory=list)
    training: list[Freeable] = field(default_factory=list)
    unreadable: list[Path] = field(default_factory=list)


def take_inventory(berg_dir: str | os.PathLike[str] | None = None) -> Inventory:
    """Look through a berg_dir and the cache.

    Parameters
    ----------
    berg_dir : path-like, optional
        By default ``$BERG_DIR``, else the platform's data directory. It need not exist.

    Returns
    -------
    Inventory
    """
    root = as_berg_dir(berg_dir)
    found = Inventory(root, cache_dir())
    for card in load_cards().values():
        found.subjects.extend(_subjects(card, root))
        files = card.files(root)
        plots = [
            path
            for path in list_folder(files.accuracy_plots)
            if os.path.isfile(path) and not path.name.startswith(".")  # no locks
        ]
        if plots:
            found.plots[card.model_id] = len(plots), sum(map(_size, plots))
        found.training.extend(_training(files.prepared))
        inside = (files.root / WEIGHTS_FOLDER, files.root / METADATA_FOLDER, files.accuracy_plots)
        found.unreadable.extend(find_unreadable((*inside, files.prepared)))
    for what, paths in (
        ("untrained network", cached_networks()),
        ("simulated subject of the demo", cached_simulations()),
    ):
        found.caches.extend(_freeable(what, path, users=(path,)) for path in paths)
    # Weights and metadata are locked each by itself, the pictures by their folder.
    found.caches.extend(
        _freeable(
            "download that is not finished",
            *(each.part, each.journal),
            users=(each.target, each.target.parent),
        )
        for each in find_interrupted(root)
    )
    left = list(_left_behind(root, known=[each.paths[0] for each in found.caches]))
    found.caches.extend(left)
    found.training[:] = [_without(each, left) for each in found.training]
    found.unreadable.extend(find_unreadable([found.cache_dir]))
    return found


def free(freeable: Freeable) -> bool:
    """Delete files that may be deleted, unless a process uses them.

    Parameters
    ----------
    freeable : Freeable
        Of an inventory.

    Returns
    -------
    bool
        Whether they are gone; False if a process uses them.

    Raises
    ------
    ResourceError
        If they cannot be deleted.
    """
    with ExitStack() as held:
        for user in freeable.users:
            if not is_free(user):
                return False
            held.enter_context(hold(user))
        if freeable.only_idle and not _is_idle(freeable.paths[0]):
            return False
        for path in freeable.paths:
            _delete(path)
    return True


def n_bytes_of(path: Path) -> int:
    """Return the space that a file takes, or all files in a folder, in bytes.

    That is its size, less the holes of a file that is not whole yet. What goes meanwhile, or may
    not be read, does not count. Links are not followed.
    """
    try:
        if path.is_symlink() or not path.is_dir():
            status = path.lstat()
            # Windows does not tell the blocks, which have 512 bytes whatever the disk's have.
            return min(status.st_size, 512 * getattr(status, "st_blocks", status.st_size))
        with os.scandir(path) as entries:
            return sum(n_bytes_of(Path(entry.path)) for entry in entries)
    except OSError:
        return 0


def _freeable(what: str, *paths: Path, users: tuple[Path, ...] = ()) -> Freeable:
    return Freeable(what, paths, sum(map(n_bytes_of, paths)), users)


def _delete(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as err:
        raise ResourceError(
            f"{path} cannot be deleted",
            got=str(err),
            accepted="a folder that you may write to",
            do="ask its owner to delete it",
        ) from err


def _subjects(card: ModelCard, root: Path) -> Iterator[SubjectOnDisk]:
    files = card.files(root)
    for subject in card.subjects:
        paths = {
            "npy": [files.weights_npy(subject)],
            "safetensors": [files.weights_safetensors(subject)],
            "metadata": [files.metadata(subject)],
            "predictions": [
                files.predictions(subject, hemi, images)
                for hemi in ("lh", "rh")
                for images in ("test", "nsdsynthetic")
            ],
        }
        sizes = {
            form: sum(_size(path) for path in several if os.path.isfile(path))
            for form, several in paths.items()
        }
        if any(sizes.values()):
            there = {form: size for form, size in sizes.items() if size}
            yield SubjectOnDisk(card.model_id, subject, there, _is_simulated(*paths["metadata"]))


def _size(path: Path) -> int:
    with suppress(OSError):  # it went meanwhile
        return os.path.getsize(path)
    return 0


def _is_simulated(metadata: Path) -> bool | None:
    if not os.path.isfile(metadata):
        return None
    try:
        return simulated_n_vertices(metadata) is not None
    # Damaged, or not readable: to say so is for those who read all of it.
    except (BERGError, OSError):
        return None


def _training(prepared: Path) -> Iterator[Freeable]:
    folders = [path for path in list_folder(prepared) if os.path.isdir(path)]
    subjects = [path for path in folders if path.name.startswith("subject-")]
    for path in subjects:
        yield _freeable(f"training of {path.name}", path, users=(path,))
    for path in folders:
        if path.name.startswith("shared_features-"):
            yield _freeable("features that subjects share", path, users=(path, *subjects))


def _left_behind(root: Path, known: Collection[Path]) -> Iterator[Freeable]:
    """Find what killed processes left in a berg_dir and in the cache, and nobody writes to.

    What lies in folders that are freed as a whole, the known ones, is left out.
    """
    parts = (root / name for name in ("encoding_models", "model_training_datasets", "results"))
    for folder in (*parts, cache_dir()):
        for inside, folders, files in os.walk(folder):
            for name in sorted((*folders, *files)):
                path = Path(inside, name)
                if _UNFINISHED.fullmatch(name) and _is_idle(path):
                    # Training writes nothing for hours, and holds its own folder or the stage's.
                    stage = path.with_name(name.removeprefix(_UNFINISHED_STAGE))
                    users = (path.parent, stage) if stage != path else ()
                    what = "left by a process that was killed"
                    yield replace(_freeable(what, path, users=users), only_idle=True)
            folders[:] = [
                name
                for name in folders
                if not name.startswith(".") and Path(inside, name) not in known
            ]


def _without(whole: Freeable, parts: Iterable[Freeable]) -> Freeable:
    """Do not count what is told by itself."""
    inside = (each for each in parts if each.paths[0].is_relative_to(whole.paths[0]))
    return replace(whole, bytes=whole.bytes - sum(each.bytes for each in inside))


def _is_idle(path: Path) -> bool:
    """Whether neither a file nor anything in a folder was changed within the last hour."""
    latest = time.time() - _IDLE_SECONDS
    try:
        below = path.rglob("*") if path.is_dir() else ()
        return all(each.lstat().st_mtime < latest for each in (path, *below))
    except OSError:
        return False
