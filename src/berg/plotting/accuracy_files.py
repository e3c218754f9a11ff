"""All figures of a model's accuracy, as files in one folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from berg.errors import InvalidParameterError, warn
from berg.metadata import Metadata
from berg.plotting.accuracy import INFLATED_VIEWS, accuracy_figure
from berg.plotting.accuracy_maps import (
    DATASET_TITLES,
    DEFAULT_ROIS,
    LEAST_CEILING,
    MEASURES,
    by_subject,
    has_measure,
    region_masks,
)
from berg.plotting.figures import check_matplotlib
from berg.plotting.files import check_format, save_figure
from berg.plotting.roi_bars import plot_roi_accuracy
from berg.plotting.surfaces import warn_of_coarser_flat
from berg.roi_accuracy import DATASETS
from berg.surface.full_mesh import choose_mesh
from berg.surface.outlines import Regions
from berg.surface.raster import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SURFACES: Mapping[str, tuple[View, ...]] = {"inflated": INFLATED_VIEWS, "flat": ("flat",)}
_BARS = "explained_variance_by_roi"


def save_accuracy_figures(
    metadata: Mapping[int, Metadata],
    out: str | os.PathLike[str],
    *,
    model: str | None = None,
    formats: Sequence[str] = ("png", "svg"),
    rois: Sequence[str] = DEFAULT_ROIS,
    least_ceiling: float = LEAST_CEILING,
    mesh: str = "fsaverage5",
    mesh_dir: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    tell: Callable[[Path], None] | None = None,
) -> list[Path]:
    """Draw the accuracy of each subject and of their average, and by region, into a folder.

    For each measure and set of images two figures: ``r2_nsdcore_subject-01_inflated.png``, and
    the same on the flat cortex; with ``average`` instead of the subject if there are several.
    The bars of all subjects are in ``explained_variance_by_roi.png``.

    Parameters
    ----------
    metadata : mapping of int to dict
        By subject, as `berg.metadata.load_metadata` returns them.
    out : path-like
        The folder; created if need be.
    model : str, optional
        Name of the model, for the headings.
    formats : sequence of {"png", "svg", "pdf"}
        Each figure is written as all of them.
    rois : sequence of str
        Regions to outline, as for `plot_accuracy`.
    least_ceiling : float
        Vertices with a lower noise ceiling are left out.
    mesh : {"fsaverage5", "fsaverage"}
        As for `plot_surface`.
    mesh_dir : path-like, optional
        As for `plot_surface`.
    overwrite : bool
        Whether to replace files that are there.
    tell : callable, optional
        Is called with the path of each file when it is written.

    Returns
    -------
    list of pathlib.Path
        The files, in the order in which they were written.

    Raises
    ------
    InvalidParameterError
        A file is there already; a format, region or mesh is unknown; no subject has any accuracy;
        or the subjects' brains have different sizes.
    MissingExtraError
        matplotlib is not installed.
    ResourceError
        A file cannot be written; fsaverage's own surfaces are not here.
    """
    check_matplotlib()
    subjects = by_subject(metadata)
    for name in formats:
        check_format(name)
    full = choose_mesh(mesh, mesh_dir)
    plan = _plan(subjects)
    if not plan:
        raise InvalidParameterError(
            "there is no accuracy to draw",
            got="metadata without r², noise ceiling and explained variance",
            accepted="the metadata of a tested model",
            do="run `berg test`, which adds them",
        )
    has_bars = any(each.measure == "explained_variance" for each in plan)
    folder, names = Path(out), [each.name for each in plan] + [_BARS] * has_bars
    _check_free([folder / f"{name}.{kind}" for name in names for kind in formats], overwrite)
    _warn_of_missing(subjects)
    warn_of_coarser_flat(["flat"], full)

    written: list[Path] = []

    def save(figure: Figure, name: str) -> None:
        for kind in formats:
            written.append(folder / f"{name}.{kind}")
            save_figure(figure, written[-1], title=name)
            if tell is not None:
                tell(written[-1])

    owner: tuple[int | None, ...] = ()
    for each in plan:
        if each.owner != owner:  # their outlines serve all figures of theirs
            owner = each.owner
            part = {n: subjects[n] for n in owner}
            regions = Regions(region_masks(part, rois))
        figure = accuracy_figure(
            part,
            each.measure,
            each.dataset,
            _SURFACES[each.surface],
            regions,
            model=model,
            least_ceiling=least_ceiling,
            full=full,
        )
        save(figure, each.name)
    if has_bars:
        save(plot_roi_accuracy(metadata, model=model, least_ceiling=least_ceiling), _BARS)
    return written


@dataclass(frozen=True)
class _Planned:
    """One figure of the cortex: of one subject, or the average of several."""

    owner: tuple[int | None, ...]
    measure: str
    dataset: str
    surface: str

    @property
    def name(self) -> str:
        """Of its file, without the suffix."""
        whose = "average" if len(self.owner) > 1 else f"subject-{self.owner[0] or 0:02d}"
        return f"{self.measure}_{self.dataset}_{whose}_{self.surface}"


def _plan(subjects: Mapping[int | None, Metadata]) -> list[_Planned]:
    """Return the figures for which there are data: each subject's, then the average."""
    owners: list[tuple[int | None, ...]] = [(number,) for number in subjects]
    if len(subjects) > 1:
        owners.append(tuple(subjects))
    return [
        _Planned(owner, measure, dataset, surface)
        for owner in owners
        for dataset in DATASETS
        for measure in MEASURES
        for surface in _SURFACES
        if any(has_measure(subjects[number], measure, dataset) for number in owner)
    ]


def _check_free(paths: Sequence[Path], overwrite: bool) -> None:
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        raise InvalidParameterError(
            f"{len(there)} of the figures are there already",
            got=f"{there[0]}{' and others' if len(there) > 1 else ''}",
            accepted="a folder without them",
            do="choose another folder (--out), or replace them (--overwrite)",
        )


def _warn_of_missing(subjects: Mapping[int | None, Metadata]) -> None:
    """Say once what the metadata lack: those of older models have no NSD-synthetic."""
    missing = [
        f"{measure} of {DATASET_TITLES[dataset]} (subject {number})"
        for number, each in subjects.items()
        for dataset in DATASETS
        for measure in MEASURES
        if not has_measure(each, measure, dataset)
    ]
    if missing:
        warn(f"not drawn, for the metadata lack it: {', '.join(missing)}")
