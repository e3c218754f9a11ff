"""Which responses a page shows: from a file, a store or memory, and of which images."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from berg import catalog
from berg.errors import (
    FileFormatError,
    InvalidParameterError,
    InvalidParameterTypeError,
    ReportSourceNotFoundError,
    did_you_mean,
)
from berg.reports.regions import UNKNOWN_SUBJECT, find_regions
from berg.reports.responses import ShownResponses
from berg.responses import Responses, SavedResponses, SurfaceMap, load_names, load_responses
from berg.responses.images import ImageNames
from berg.responses.meshes import FULL_MESH, mesh_of_size
from berg.selection import Regions
from berg.toolkit import BERG

Images = int | Sequence[int | str] | NDArray[np.integer[Any] | np.str_]
Subjects = int | Iterable[int] | None

MOST_IMAGES = 100  # at about 400 kB each, what a browser still opens at once
_ACCEPTED = "a .npz of `berg encode`, a store (a folder), or the id of a model"


def choose_from_path(path: Path, images: Images, subject: Subjects, berg: BERG) -> ShownResponses:
    """Return the responses of a file or a store that a page shows.

    Parameters
    ----------
    path : Path
    images : int, or sequence of int and str
        How many, from the first, or which, by place or name; text that is no image's name may be
        a place.
    subject : int or iterable of int, optional
        Of a store with several.
    berg : BERG
        With the berg_dir of the regions, and of a store's weights.

    Returns
    -------
    ShownResponses

    Raises
    ------
    ReportSourceNotFoundError
        If there is no such path.
    FileFormatError
        If the file is another one, or damaged.
    InvalidParameterError
        If there is no such subject or image, or there are no images at all.
    """
    if path.is_dir():
        return _of_store(path, images, subject, berg)
    if not path.exists():
        near = did_you_mean(path, catalog.load_cards())
        raise ReportSourceNotFoundError(
            f"there is no file, store or model {str(path)!r}.{near}",
            got=f"working in {Path.cwd()}",
            accepted=_ACCEPTED,
            do="check the spelling; `berg list` lists the models",
        )
    if path.suffix.lower() != ".npz":
        raise FileFormatError(
            f"{path} is nothing to report on",
            got=f"a file that ends in {path.suffix!r}",
            accepted=_ACCEPTED,
            do="encode images first: berg encode photos/ --subject 1 --out responses.npz",
        )
    refuse_subject(subject, str(path))
    return _of_npz(path, images, berg)


def choose_lazy(responses: Responses, images: Images) -> ShownResponses:
    """Return those of lazy responses that a page shows; no others are computed."""
    chosen = _check_images(images, len(responses))
    which = chosen if isinstance(chosen, range) else _named(chosen, responses.names)
    return ShownResponses(
        maps=[responses[image].map(0) for image in which],
        n_images=len(responses),
        are_first=isinstance(chosen, range),
        regions=responses.regions or UNKNOWN_SUBJECT,
        folders=[Path()],
    )


def choose_saved(saved: SavedResponses, images: Images, berg: BERG) -> ShownResponses:
    """Return those of responses in memory that a page shows."""
    chosen = _check_images(images, len(saved.names))
    return _of_saved(saved, _places(saved.names, chosen), chosen, berg)


def refuse_subject(subject: Subjects, what: str) -> None:
    """Raise `InvalidParameterError` if a subject is given beside responses of a single one."""
    if subject is not None:
        raise InvalidParameterError(
            f"{what} is of one subject already",
            got=f"subject={subject!r}",
            accepted="a subject beside a store with several, or a model",
            do="leave the subject out",
        )


def _of_npz(path: Path, images: Images, berg: BERG) -> ShownResponses:
    names = load_names(path)
    chosen = _check_images(images, len(names))
    saved = load_responses(path, _places(names, chosen))
    shown = _of_saved(saved, range(len(saved.names)), chosen, berg)
    return replace(_from(path, shown), n_images=len(names))


def _places(names: Sequence[str], chosen: Sequence[int | str]) -> list[int]:
    called = ImageNames(names, range(len(names)))
    return [int(called.find(image)[0]) for image in _named(chosen, names)]


def _named(chosen: Sequence[int | str], names: Sequence[str]) -> list[int | str]:
    """Take a number in text for an image's name; if none is called so, for its place."""
    known = set(names)
    return [
        int(image)
        if isinstance(image, str) and image.removeprefix("-").isdecimal() and image not in known
        else image
        for image in chosen
    ]


def _of_saved(
    saved: SavedResponses, places: Sequence[int], chosen: Sequence[int | str], berg: BERG
) -> ShownResponses:
    regions = find_regions(saved, berg)
    mesh = _mesh_of(saved, regions)
    return ShownResponses(
        maps=[
            SurfaceMap(
                lh=saved.lh[place],
                rh=saved.rh[place],
                lh_vertices=saved.lh_vertices,
                rh_vertices=saved.rh_vertices,
                name=saved.names[place],
                units="z",
                mesh=mesh,
                provenance=saved.provenance,
            )
            for place in places
        ],
        n_images=len(saved.names),
        are_first=isinstance(chosen, range),
        regions=regions,
        folders=[Path()],
    )


def _from(path: Path, shown: ShownResponses) -> ShownResponses:
    """Add where responses are from; photographs may lie beside them."""
    return replace(shown, source=path.name, folders=[path.absolute().parent, Path()])


def _of_store(path: Path, images: Images, subject: Subjects, berg: BERG) -> ShownResponses:
    from berg.stores.reading import describe_store, open_store

    subjects = [None] if subject is None else list_subjects(subject)
    if len(subjects) != 1:
        raise InvalidParameterError(
            "a page of responses shows one subject",
            got=f"subjects {', '.join(map(str, subjects))}",
            accepted="one subject",
            do="write a page for each",
        )
    responses = open_store(path, subject=subjects[0], berg_dir=berg.berg_dir, partial=True)
    summary = describe_store(path)
    notes = []
    if (n_done := summary.n_done_images) < (n_images := summary.recipe.n_images):
        notes.append(f"The store is not complete: {n_done:,} of {n_images:,} images are done.")
    if n_unreadable := len(summary.unreadable):
        notes.append(
            "Left out, as they could not be read: "
            f"{n_unreadable:,} of the store's {n_images:,} images."
        )
    return replace(_from(path, choose_lazy(responses, images)), notes=notes)


def list_subjects(subject: int | Iterable[int]) -> list[int]:
    """Return one subject or several as a list."""
    return list(subject) if isinstance(subject, Iterable) else [subject]


def _mesh_of(saved: SavedResponses, regions: Regions | str) -> str:
    if isinstance(regions, str) or "mesh" in saved.provenance:
        return str(saved.provenance.get("mesh", FULL_MESH))
    return mesh_of_size(regions.card.n_vertices)  # simulated brains are smaller


def _check_images(images: Images, n_images: int) -> Sequence[int | str]:
    """Return which images are shown: places and names, a range if they are the first."""
    if not n_images:
        raise InvalidParameterError(
            "there are no images to show",
            got="responses to 0 images",
            accepted="responses to one image or more",
            do="encode images first: berg encode photos/ --subject 1 --out responses.npz",
        )
    if isinstance(images, np.ndarray):
        images = images.tolist()
    if isinstance(images, bool | str) or not isinstance(images, SupportsIndex | Sequence):
        raise InvalidParameterTypeError(
            "images are neither a number nor a list",
            got=f"{type(images).__name__}: {images!r}"[:200],
            accepted="how many, or a list of places and names",
            do=f"images=[{images!r}]" if isinstance(images, str) else "for example images=10",
        )
    n_asked = len(images) if isinstance(images, Sequence) else operator.index(images)
    if not 1 <= n_asked <= MOST_IMAGES:
        raise InvalidParameterError(
            "a page does not show so many images",
            got=f"{n_asked}",
            accepted=f"1 to {MOST_IMAGES}",
            do="choose some: --image NAME, or write several pages",
        )
    return images if isinstance(images, Sequence) else range(min(n_asked, n_images))
