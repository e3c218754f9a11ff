"""What a berg_dir holds of every model and subject, and what may be deleted to free space.

Looking reads directories and, for whether a subject is simulated, the beginning of its metadata.
Weights, metadata, predictions, accuracy plots and stores are never among what may be deleted.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

from berg.atomic import TEMPORARY_NAME
from berg.catalog import ModelCard, load_cards
from berg.downloads import find_interrupted
from berg.errors import BERGError, ResourceError
from berg.layout import as_berg_dir, cache_dir, cached_networks, cached_simulations
from berg.locks import hold, is_free
from berg.metadata import simulated_n_vertices

# What processes that were killed leave behind, and the time after which none is at work on it.
_UNFINISHED = re.compile(rf"\.unfinished-.+|\.simulating-.+|{TEMPORARY_NAME.pattern}")
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
    """

    what: str
    paths: tuple[Path, ...]
    bytes: int
    users: tuple[Path, ...] = ()


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
    """

    berg_dir: Path
    cache_dir: Path
    subjects: list[SubjectOnDisk] = field(default_factory=list)
    plots: dict[str, tuple[int, int]] = field(default_factory=dict)
    caches: list[Freeable] = field(default_factory=list)
    training: list[Freeable] = field(default_factory=list)


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
        plots = [path for path in files.accuracy_plots.glob("*") if path.is_file()]
        if plots:
            found.plots[card.model_id] = len(plots), sum(map(n_bytes_of, plots))
        found.training.extend(_training(files.prepared))
    for what, paths in (
        ("untrained network", cached_networks()),
        ("simulated subject of the demo", cached_simulations()),
    ):
        found.caches.extend(_freeable(what, path, users=(path,)) for path in paths)
    found.caches.extend(
        _freeable("download that is not finished", each.part, each.journal, users=(each.target,))
        for each in find_interrupted(root)
    )
    for path in sorted(_unfinished(root)):
        found.caches.append(_freeable("left by a process that was killed", path))
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
        for path in freeable.paths:
            _delete(path)
    return True


def n_bytes_of(path: Path) -> int:
    """Return the size of a file, or of all files in a folder; what goes meanwhile does not count.

    Links are not followed.
    """
    try:
        if path.is_symlink() or not path.is_dir():
            return path.lstat().st_size
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
            form: sum(n_bytes_of(path) for path in several if path.is_file())
            for form, several in paths.items()
        }
        if any(sizes.values()):
            there = {form: size for form, size in sizes.items() if size}
            yield SubjectOnDisk(card.model_id, subject, there, _is_simulated(*paths["metadata"]))


def _is_simulated(metadata: Path) -> bool | None:
    if not metadata.is_file():
        return None
    try:
        return simulated_n_vertices(metadata) is not None
    except BERGError:  # damaged: to say so is for those who read all of it
        return None


def _training(prepared: Path) -> Iterator[Freeable]:
    subjects = sorted(path for path in prepared.glob("subject-*") if path.is_dir())
    for path in subjects:
        yield _freeable(f"training of {path.name}", path, users=(path,))
    for path in sorted(prepared.glob("shared_features-*")):
        yield _freeable("features that subjects share", path, users=(path, *subjects))


def _unfinished(root: Path) -> Iterator[Path]:
    """Find what killed processes left in a berg_dir and in the cache, and nobody writes to."""
    latest = time.time() - _IDLE_SECONDS
    parts = (root / name for name in ("encoding_models", "model_training_datasets", "results"))
    for folder in (*parts, cache_dir()):
        for inside, folders, files in os.walk(folder):
            for name in (*folders, *files):
                path = Path(inside, name)
                with suppress(OSError):
                    if _UNFINISHED.fullmatch(name) and _last_change(path) < latest:
                        yield path
            folders[:] = [name for name in folders if not name.startswith(".")]


def _last_change(path: Path) -> float:
    """Return when a file, or the last of a folder's, was changed, in seconds since 1970."""
    below = path.rglob("*") if path.is_dir() else ()
    return max(float(each.lstat().st_mtime) for each in (path, *below))
