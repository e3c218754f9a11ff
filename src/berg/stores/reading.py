"""A store read back: as lazy responses, and as a summary of what is in it."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import partial as bind
from pathlib import Path

from berg.errors import InvalidParameterError, ModelLoadError, warn
from berg.responses import Readout, Responses
from berg.responses.meshes import mesh_of_size
from berg.selection import Selection
from berg.stores.chunks import ENCODED, NOT_DONE, UNREADABLE
from berg.stores.recipe import Recipe
from berg.stores.store import Store
from berg.stores.stored import StoredImages
from berg.toolkit import BERG


def open_store(
    path: str | os.PathLike[str],
    *,
    subject: int | None = None,
    berg_dir: str | os.PathLike[str] | None = None,
    partial: bool = False,
) -> Responses:
    """Open a store that `berg encode --store` made, as responses.

    Scores and names are read when they are needed, the model's regressions when the first
    response is. A store may be opened while it is being written.

    Parameters
    ----------
    path : path-like
    subject : int, optional
        Counted from 1. It may be left out if the store has one subject.
    berg_dir : path-like, optional
        Directory with the model's weights, as for `berg.BERG`.
    partial : bool, default False
        Whether to open a store that is not complete: with the images that are done.

    Returns
    -------
    Responses
        Of the images that could be read, in the order of the store.

    Warns
    -----
    BERGWarning
        If images were left out because they could not be read.

    Raises
    ------
    StoreNotFoundError
        If there is no store under the path.
    FileFormatError
        If it is not a store, or damaged. So do the responses when a file that they read is.
    InvalidParameterError
        If the store does not have the subject, or has several and none is given; or if it is
        not complete and `partial` is false.
    ModelLoadError
        From the responses, when they load the regressions: if the weights in berg_dir are not
        those that the store was made with.
    ResourceError
        If the store may not be read.
    """
    store = Store.open(path)
    number = _pick_subject(store, subject)
    status = store.status()
    n_missing = int((status == NOT_DONE).sum())
    if n_missing and not partial:
        recipe = store.recipe
        raise InvalidParameterError(
            f"{store.path} is not complete",
            got=f"{recipe.n_images - n_missing} of {recipe.n_images} images are done "
            f"({store.is_done().sum()} of {recipe.n_chunks} chunks)",
            accepted="a store whose encoding has ended",
            do="run the same `berg encode` again, which goes on from there; "
            "open_store(path, partial=True) gives the images that are done",
        )
    images = StoredImages.where(status == ENCODED)
    if n_unreadable := int((status == UNREADABLE).sum()):
        warn(
            f"{n_unreadable} of {store.recipe.n_images} images in {store.path} could not be read "
            "and are left out, so that places shift: go by names",
        )
    berg = BERG(berg_dir)
    regions = berg.regions(store.recipe.model_id, number)
    return Responses(
        store.scores(number, images),
        bind(_load_readout, store, number, berg),  # pickled, where a lambda is not
        names=store.names(images),
        regions=regions,
        provenance=store.provenance(number),
        mesh=mesh_of_size(regions.card.n_vertices),  # simulated brains are smaller
    )


@dataclass(frozen=True)
class StoreSummary:
    """What is in a store.

    Attributes
    ----------
    path : Path
    recipe : Recipe
    n_done_chunks : int
    n_done_images : int
        Images of chunks that are done, encoded or unreadable.
    unreadable : tuple of str
        Names of the images that could not be read.
    n_bytes : int
        Of all files.
    simulated : bool
        Whether a subject of the store is a simulated one.
    """

    path: Path
    recipe: Recipe
    n_done_chunks: int
    n_done_images: int
    unreadable: tuple[str, ...]
    n_bytes: int
    simulated: bool


def describe_store(path: str | os.PathLike[str]) -> StoreSummary:
    """Summarise a store, complete or not.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    StoreSummary

    Raises
    ------
    StoreNotFoundError
        If there is no store under the path.
    FileFormatError
        If it is not a store, or damaged.
    ResourceError
        If it may not be read.
    """
    store = Store.open(path)
    status = store.status()
    starts = status[:: store.recipe.chunk_images]
    return StoreSummary(
        path=store.path,
        recipe=store.recipe,
        n_done_chunks=int((starts != NOT_DONE).sum()),
        n_done_images=int((status != NOT_DONE).sum()),
        unreadable=tuple(store.names(StoredImages.where(status == UNREADABLE))),
        n_bytes=_count_bytes(store.path),
        simulated=any(
            store.provenance(subject).get("simulated") for subject in store.recipe.subjects
        ),
    )


def _count_bytes(folder: Path) -> int:
    n_bytes = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # of a process that is writing
                n_bytes += os.stat(os.path.join(parent, name)).st_size
    return n_bytes


def _pick_subject(store: Store, subject: int | None) -> int:
    subjects = store.recipe.subjects
    if subject is None and len(subjects) == 1:
        return subjects[0]
    if subject not in subjects:
        listed = ", ".join(map(str, subjects))
        raise InvalidParameterError(
            f"{store.path} does not have subject {subject!r}"
            if subject is not None
            else f"{store.path} has several subjects",
            got=f"subject={subject!r}",
            accepted=listed,
            do=f"for example open_store(path, subject={subjects[0]})",
        )
    return int(subject)


def _load_readout(store: Store, subject: int, berg: BERG) -> Readout:
    """Load the regressions; raise if they are not those that the store was made with."""
    recipe = store.recipe
    vertices = Selection(*store.vertices(subject), recipe.rois)
    n_vertices = berg.regions(recipe.model_id, subject).card.n_vertices
    if max(hemi.max(initial=-1) for hemi in (vertices.lh, vertices.rh)) >= n_vertices:
        raise _other_weights(store, subject, berg, f"a brain of {n_vertices} vertices")
    readout, sha256 = berg.load_readout(recipe.model_id, subject, vertices)
    if sha256 != recipe.weights_of(subject):
        # Responses of another training's regressions would look normal.
        raise _other_weights(store, subject, berg, f"SHA-256 {sha256[:16]}…")
    return readout


def _other_weights(store: Store, subject: int, berg: BERG, got: str) -> ModelLoadError:
    return ModelLoadError(
        f"{store.path} was made with other weights of subject {subject} than those in "
        f"{berg.berg_dir}",
        got=got,
        accepted=f"SHA-256 {store.recipe.weights_of(subject)[:16]}…",
        do="give the berg_dir that has them, or make a new store with the weights that are there",
    )
