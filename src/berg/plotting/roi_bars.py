"""Accuracy by region: bars of the subjects' mean, with a dot for each subject."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from berg.errors import InvalidParameterError
from berg.metadata import Metadata
from berg.plotting.accuracy import whose
from berg.plotting.accuracy_maps import (
    DATASET_TITLES,
    by_subject,
    check_choices,
    n_simulated,
)
from berg.plotting.figures import FAINT, INK, Heading, check_matplotlib, new_figure
from berg.roi_accuracy import (
    DATASETS,
    LEAST_CEILING,
    RegionAccuracy,
    has_measure,
    summarise_by_roi,
)
from berg.surface.panel import add_axes
from berg.surface.roi_patches import ROI_COLLECTIONS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart by all eyes (Okabe & Ito, 2008), and by their shapes in print without colours.
_COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#B8A800",
)
_SHAPES = "osD^vP*X"
_BAR, _RULE = "#c9ccd1", "#e4e4e4"
_GROUPS = {
    "prf-visualrois": "retinotopic",
    "floc-bodies": "bodies",
    "floc-faces": "faces",
    "floc-places": "places",
    "floc-words": "words",
    "streams": "streams",
    "nsdgeneral": "all",
}
_OTHER = "other"
_GAP = 0.7  # between groups, in bars
_SPREAD = 0.56  # of the dots over a bar, in bars
_WIDTH, _LEFT, _RIGHT, _PANEL = 7.0, 0.8, 0.12, 2.0  # inches
_NAMES = 0.75  # inches below the lowest panel, for the names of the regions
_NOTE = 0.2  # inches of a line under them


@dataclass(frozen=True)
class _Column:
    """One region: its group, and where its bar stands."""

    roi: str
    group: str
    x: float


def plot_roi_accuracy(
    metadata: Metadata | Mapping[int, Metadata],
    datasets: Sequence[str] | None = None,
    *,
    model: str | None = None,
    least_ceiling: float = LEAST_CEILING,
) -> Figure:
    """Draw the median explained variance of each region, the subjects' mean and each of them.

    A subject's median is over the vertices of both hemispheres that have a high enough noise
    ceiling, as `berg.roi_accuracy.summarise_by_roi` has it. A bar is the mean over the subjects
    that have such vertices; their number stands over the bar where it is not all. Subjects who
    were tested on none of the images are left out.

    Parameters
    ----------
    metadata : dict, or mapping of int to dict
        Of one subject as `berg.metadata.load_metadata` returns it, or of several by subject.
    datasets : sequence of {"nsdcore", "nsdsynthetic"}, optional
        The images that the model was tested on, a panel each. By default those there are.
    model : str, optional
        Name of the model, for the heading.
    least_ceiling : float
        Vertices with a lower noise ceiling do not count.

    Returns
    -------
    matplotlib.figure.Figure
        7 inches wide.

    Raises
    ------
    InvalidParameterError
        A dataset is unknown or no subject was tested on it, or there is no region to draw.
    MissingExtraError
        matplotlib is not installed.
    """
    check_matplotlib()
    subjects = by_subject(metadata)
    tested = [name for name in DATASETS if _tested(subjects, [name])]
    chosen = tested if datasets is None else list(datasets)
    for name in chosen:
        check_choices("explained_variance", name)
    if not chosen or not set(chosen) <= set(tested):
        raise InvalidParameterError(
            "no subject was tested on these images",
            got=", ".join(chosen) or "no dataset",
            accepted=", ".join(tested) or "metadata with explained variance",
            do="choose another dataset, or run `berg test`, which adds it to the metadata",
        )
    subjects = _tested(subjects, chosen)
    rows = {n: summarise_by_roi(each, least_ceiling) for n, each in subjects.items()}
    columns, absent = _columns(subjects, rows)
    heading = Heading(
        "Explained variance by region",
        n_simulated(subjects),
        " · ".join(filter(None, (_whose(list(subjects)), model))),
    )
    top = heading.height + 0.3
    notes = _notes(len(subjects), absent, least_ceiling)
    below = _NAMES + _NOTE * len(notes) + (0.3 if len(subjects) > 1 else 0.0)
    step = _PANEL + 0.3
    figure = new_figure(_WIDTH, top + step * len(chosen) - 0.3 + below)
    for number, name in enumerate(chosen):
        axes = add_axes(figure, _LEFT, top + number * step, _WIDTH - _LEFT - _RIGHT, _PANEL)
        _draw_panel(axes, columns, _scores(rows, name), name, list(subjects))
        if number == 0:
            _name_groups(axes, columns)
        _name_columns(axes, columns, hide=number < len(chosen) - 1)
    _write_below(figure, list(subjects), notes)
    heading.write(figure)
    return figure


def _tested(
    subjects: Mapping[int | None, Metadata], datasets: Sequence[str]
) -> dict[int | None, Metadata]:
    """Return the subjects who were tested on one of the sets of images at least."""
    return {
        number: each
        for number, each in subjects.items()
        if any(has_measure(each, "explained_variance", name) for name in datasets)
    }


def _whose(subjects: Sequence[int | None]) -> str:
    text = whose(subjects)
    return text.replace("average", "mean") if text else text


def _columns(
    subjects: Mapping[int | None, Metadata], rows: Mapping[int | None, list[RegionAccuracy]]
) -> tuple[list[_Column], list[str]]:
    """Return the regions in the order of their collections, and the names of those none has."""
    present = dict.fromkeys(row.roi for each in rows.values() for row in each)
    known = dict.fromkeys(
        name
        for each in subjects.values()
        for hemi in ("lh", "rh")
        for name in each["fmri"][f"{hemi}_fsaverage_rois"]
    )
    if not present:
        raise InvalidParameterError(
            "there is no region to draw", got="no region with a vertex", accepted="at least one"
        )
    in_groups = {name for names in ROI_COLLECTIONS.values() for name in names}
    groups = {_GROUPS[collection]: names for collection, names in ROI_COLLECTIONS.items()}
    groups[_OTHER] = tuple(name for name in present if name not in in_groups)
    columns: list[_Column] = []
    x = 0.0
    for group, names in groups.items():
        here = [name for name in names if name in present]
        columns += [_Column(name, group, x + number) for number, name in enumerate(here)]
        x += len(here) + (_GAP if here else 0.0)
    return columns, [name for name in known if name not in present]


def _scores(
    rows: Mapping[int | None, list[RegionAccuracy]], dataset: str
) -> dict[str, list[float]]:
    """Return each region's medians in percent, one of each subject, NaN where it has none."""
    by_roi = [
        {row.roi: row.explained_variance_percent[dataset] for row in each} for each in rows.values()
    ]
    names = dict.fromkeys(name for each in by_roi for name in each)
    return {name: [each.get(name, np.nan) for each in by_roi] for name in names}


def _draw_panel(
    axes: Axes,
    columns: Sequence[_Column],
    scores: Mapping[str, Sequence[float]],
    dataset: str,
    subjects: Sequence[int | None],
) -> None:
    axes.set_axis_on()
    n_subjects = len(subjects)
    offsets = (np.arange(n_subjects) - (n_subjects - 1) / 2) * _SPREAD / max(n_subjects - 1, 1)
    for number, subject in enumerate(subjects):
        xs = [column.x + offsets[number] for column in columns]
        heights = [scores[column.roi][number] for column in columns]
        axes.plot(xs, heights, markersize=3.2, zorder=3, clip_on=False, **_dot(subject))
    for column in columns:
        values = np.array(scores[column.roi])
        known = np.isfinite(values)
        if known.any():
            axes.bar(column.x, values[known].mean(), width=0.8, color=_BAR, zorder=2)
        if 0 < known.sum() < n_subjects or not known.any():
            height = values[known].max() if known.any() else 0.0
            axes.annotate(
                f"n={known.sum()}",
                (column.x, height),
                xytext=(0, 3.5),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontsize=5.5,
                color=FAINT,
            )
    axes.set_xlim(columns[0].x - 0.7, columns[-1].x + 0.7)
    axes.set_ylim(0, 100)
    axes.set_yticks([0, 25, 50, 75, 100])
    axes.set_ylabel(
        f"{DATASET_TITLES[dataset]}\nmedian explained variance\n(% of the noise ceiling)",
        fontsize=8,
        color=INK,
    )
    axes.grid(axis="y", color=_RULE, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=7.5, length=2.5, width=0.5, pad=2)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_linewidth(0.5)


def _dot(subject: int | None) -> dict[str, Any]:
    """Return the look of a subject's dots: the same in every figure, whoever else is in it."""
    number = (subject or 1) - 1
    return {
        "marker": _SHAPES[number % len(_SHAPES)],
        "color": _COLOURS[number % len(_COLOURS)],
        "markeredgewidth": 0,
        "linestyle": "none",
    }


def _name_groups(axes: Axes, columns: Sequence[_Column]) -> None:
    above: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "color": FAINT}
    for group in dict.fromkeys(column.group for column in columns):
        xs = [column.x for column in columns if column.group == group]
        axes.text((xs[0] + xs[-1]) / 2, 1.06, group, ha="center", fontsize=7.5, **above)
        line = [xs[0] - 0.4, xs[-1] + 0.4]
        axes.plot(line, [1.04, 1.04], linewidth=0.6, clip_on=False, **above)


def _name_columns(axes: Axes, columns: Sequence[_Column], hide: bool) -> None:
    axes.set_xticks([column.x for column in columns])
    axes.tick_params(axis="x", length=0)
    if hide:
        axes.set_xticklabels([])
        return
    names = [column.roi for column in columns]
    axes.set_xticklabels(names, rotation=90, fontsize=7.5, parse_math=False)


def _notes(n_subjects: int, absent: Sequence[str], least_ceiling: float) -> list[str]:
    """Say what a bar is, and which regions no subject has."""
    notes = [f"median over the vertices with a noise ceiling of at least {least_ceiling:g}"]
    if n_subjects > 1:
        notes[0] += "; bars: mean of the subjects"
    if absent:
        nowhere = "in none of the subjects" if n_subjects > 1 else "not in this subject"
        notes.append(f"{nowhere}: {', '.join(absent)}")
    return notes


def _write_below(figure: Figure, subjects: Sequence[int | None], notes: Sequence[str]) -> None:
    """Write whose the dots are, and the notes."""
    from matplotlib.lines import Line2D

    height = figure.get_figheight()
    bottom = 0.12
    for note in reversed(notes):
        placed: dict[str, Any] = {"ha": "center", "va": "center", "parse_math": False}
        figure.text(0.5, bottom / height, note, fontsize=7, color=FAINT, **placed)
        bottom += _NOTE
    if len(subjects) > 1:
        handles = [
            Line2D([], [], markersize=4, label=f"subject {subject}", **_dot(subject))
            for subject in subjects
        ]
        figure.legend(
            handles=handles,
            loc="center",
            bbox_to_anchor=(0.5, (bottom + 0.02) / height),
            ncols=min(8, len(handles)),
            fontsize=7,
            frameon=False,
            handletextpad=0.1,
            columnspacing=1.0,
        )
