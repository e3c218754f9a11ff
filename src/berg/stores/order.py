"""What a run is asked for, looked up: all that the content of its store follows from."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import berg
from berg import alexnet
from berg.errors import InvalidParameterTypeError, ResourceError
from berg.selection import Selection
from berg.sources import ImageCollection
from berg.stores.arrays import plan_arrays
from berg.stores.plan import RunPlan, plan_run
from berg.stores.recipe import DEFAULT_CHUNK, Recipe
from berg.stores.store import Store
from berg.toolkit import BERG

logger = logging.getLogger(__name__)

# Of a model's provenance, what is of one process that works on a store, and not of its content.
_OF_A_PROCESS = ("device", "engine", "weights_file")
_NAMES_LOOKED_AT = 1000  # for their length on average


@dataclass(frozen=True)
class Order:
    """What a run is asked for; `look_up` makes one.

    Parameters
    ----------
    images : ImageCollection
    recipe : Recipe
    berg_dir : Path
        Absolute.
    n_features, n_components : int
        Of the model.
    vertices : dict of int to Selection
        Of each subject, those that its responses are of.
    provenance : dict of int to dict
        Of each subject, without what is of a process.
    mapped : bool
        Whether all weights are converted, so that processes share their pages.
    """

    images: ImageCollection
    recipe: Recipe
    berg_dir: Path
    n_features: int
    n_components: int
    vertices: dict[int, Selection]
    provenance: dict[int, dict[str, Any]]
    mapped: bool

    @property
    def n_vertices(self) -> dict[int, tuple[int, int]]:
        """Vertices of the left and the right hemisphere, of each subject."""
        return {subject: (len(both.lh), len(both.rh)) for subject, both in self.vertices.items()}

    def open_store(self, path: Path) -> Store | None:
        """Open the store if there is one.

        Parameters
        ----------
        path : Path

        Returns
        -------
        Store or None

        Raises
        ------
        InvalidParameterError
            If it was begun with other parameters.
        FileFormatError, ResourceError
            If there is something else, or it cannot be read.
        """
        if not os.path.lexists(path):
            return None
        store = Store.open(path)
        store.check_recipe(self.recipe)
        return store

    def create_store(self, path: Path) -> Store:
        """Make the store, without images.

        Parameters
        ----------
        path : Path

        Returns
        -------
        Store

        Raises
        ------
        InvalidParameterError
            If there is something under the path.
        ResourceError
            If it cannot be written.
        """
        return Store.create(
            path,
            self.recipe,
            n_components=self.n_components,
            vertices={subject: (both.lh, both.rh) for subject, both in self.vertices.items()},
            provenance=self.provenance,
        )

    def plan(self, store: Store | None, n_workers: int) -> RunPlan:
        """Say what the run will take.

        Parameters
        ----------
        store : Store or None
            What there is already.
        n_workers : int
            Processes that may compute; 0 if this one does. There is no work for more than there
            are chunks to do.

        Returns
        -------
        RunPlan
        """
        n_done = 0 if store is None else int(store.is_done().sum())
        names = self.images.names(0, _NAMES_LOOKED_AT)
        return plan_run(
            self.recipe,
            plan_arrays(self.recipe, self.n_components, self.n_vertices),
            n_done=n_done,
            n_features=self.n_features,
            n_components=self.n_components,
            name_bytes=sum(map(len, map(os.fsencode, names))) / len(names),
            n_workers=min(n_workers, self.recipe.n_chunks - n_done),
            mapped=self.mapped,
        )


def look_up(
    images: ImageCollection,
    toolkit: BERG,
    model_id: str,
    subjects: Iterable[int],
    rois: Iterable[str] = (),
    dtype: str = "scores",
    chunk_images: int | None = None,
    *,
    precision: str = "float32",
    convert: bool = True,
    tell: Callable[[str], object] = logger.info,
) -> Order:
    """Look up all that a store follows from, before anything is computed.

    Parameters
    ----------
    images : ImageCollection
    toolkit : BERG
    model_id, subjects, rois, dtype, chunk_images, precision
        As for `berg.stores.running.encode_to_store`.
    convert : bool
        Whether weights are converted where they are not, if berg_dir may be written to.
    tell : callable
        Called with what a user should read.

    Returns
    -------
    Order

    Raises
    ------
    InvalidParameterError
        If a parameter is not accepted.
    WeightsNotFoundError, MetadataNotFoundError, ModelLoadError
        If the models cannot be loaded.
    """
    if isinstance(subjects, int | str) or not isinstance(subjects, Iterable):
        raise InvalidParameterTypeError(
            "subjects are not a list of numbers",
            got=f"{type(subjects).__name__}: {subjects!r}",
            accepted="an iterable of integers",
            do="for example subjects=[1, 2], or subjects=range(1, 9) for all of them",
        )
    names = sorted({rois} if isinstance(rois, str) else {*rois})
    selection = {"roi": names} if names else None
    vertices = {
        subject: toolkit.select_vertices(model_id, subject, selection) for subject in subjects
    }
    numbers = sorted(vertices)
    for subject in numbers:  # of all, before those of one are converted
        toolkit.check_weights(model_id, subject)
    mapped = _convert(toolkit, model_id, numbers, tell) if convert else True
    with toolkit.get_projections(model_id, numbers, "cpu", precision=precision) as models:
        recipe = Recipe(
            model_id=model_id,
            subjects=models.subjects,
            rois=vertices[numbers[0]].rois,
            dtype=dtype,
            n_images=len(images),
            images_sha256=images.fingerprint,
            chunk_images=DEFAULT_CHUNK.get(dtype, 1) if chunk_images is None else chunk_images,
            weights_sha256=tuple(model.source.fingerprint() for model in models),
            network_sha256=alexnet.FINGERPRINT,
            berg_version=berg.__version__,
            precision=precision,
        )
        provenance = {model.subject: model.provenance() for model in models}
        n_features, n_components = models[0].card.n_features, models[0].n_components
    for subject, entries in provenance.items():
        entries["rois"] = list(vertices[subject].rois)
        for name in _OF_A_PROCESS:
            del entries[name]
    return Order(
        images,
        recipe,
        toolkit.berg_dir.absolute(),
        n_features,
        n_components,
        {subject: vertices[subject] for subject in recipe.subjects},
        provenance,
        mapped,
    )


def _convert(
    toolkit: BERG, model_id: str, subjects: Sequence[int], tell: Callable[[str], object]
) -> bool:
    """Convert weights, so that processes share their pages; say whether all are converted."""
    for subject in subjects:
        try:
            path, written = toolkit.convert_weights(model_id, subject=subject)
        except ResourceError as err:  # a berg_dir that others own, or a full disk
            logger.info("weights stay unconverted: %s", err)
            return False
        if written:
            tell(f"converted, so that processes share its memory: {path}")
    return True
