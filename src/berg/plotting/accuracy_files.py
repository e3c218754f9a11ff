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
    MEASURES,
    by_subject,
    region_masks,
)
from berg.plotting.figures import check_matplotlib
from berg.plotting.files import check_format, save_figure
from berg.plotting.roi_bars import plot_roi_accuracy
from berg.plotting.surfaces import warn_of_coarser_flat
from berg.roi_accuracy import DATASETS, LEAST_CEILING, has_measure
from berg.surface.full_mesh import choose_mesh
from berg.surface.outlines import Regions
from berg.surface.raster import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SURFACES: Mapping[str, tuple[View, ...]] = {"inflated": INFLATED_VIEWS, "flat": ("flat",)}


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
    the same on the flat cortex; and ``r2_nsdcore_average-01-02-05_inflated.png`` of those of
    several subjects who have the measure, if they are two or more. The bars of all are in
    ``explained_variance_by_roi_average-01-02-05.png``, of one in ``…_subject-01.png``.

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
    scored = dict.fromkeys(
        number for each in plan if each.measure == "explained_variance" for number in each.owners
    )
    bars = f"explained_variance_by_roi_{_whose(list(scored))}" if scored else None
    folder, names = Path(out), [each.name for each in plan] + ([bars] if bars else [])
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

    owners: tuple[int | None, ...] = ()
    for each in plan:
        if each.owners != owners:  # their outlines serve all figures of theirs
            owners = each.owners
            part = {n: subjects[n] for n in owners}
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
    if bars:
        save(plot_roi_accuracy(metadata, model=model, least_ceiling=least_ceiling), bars)
    return written


@dataclass(frozen=True)
class _Planned:
    """One figure of the cortex: of one subject, or the average of several."""

    owners: tuple[int | None, ...]
    measure: str
    dataset: str
    surface: str

    @property
    def name(self) -> str:
        """Of its file, without the suffix."""
        return f"{self.measure}_{self.dataset}_{_whose(self.owners)}_{self.surface}"


def _whose(owners: Sequence[int | None]) -> str:
    """Say in the name of a file whose accuracy it shows."""
    numbers = "-".join(sorted(f"{number or 0:02d}" for number in owners))
    return f"average-{numbers}" if len(owners) > 1 else f"subject-{numbers}"


def _plan(subjects: Mapping[int | None, Metadata]) -> list[_Planned]:
    """Return the figures for which there are data: each subject's, then averages of two or more."""
    drawn = [(dataset, measure) for dataset in DATASETS for measure in MEASURES]
    having = {
        (dataset, measure): tuple(
            number for number, each in subjects.items() if has_measure(each, measure, dataset)
        )
        for dataset, measure in drawn
    }
    wanted: list[tuple[tuple[int | None, ...], str, str]] = [
        ((number,), *which) for number in subjects for which in drawn if number in having[which]
    ]
    wanted += [(having[which], *which) for which in drawn if len(having[which]) > 1]
    return [
        _Planned(owners, measure, dataset, surface)
        for owners, dataset, measure in wanted
        for surface in _SURFACES
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
