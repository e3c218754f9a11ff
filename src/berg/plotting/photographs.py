"""Photographs, and beside each the responses that it evokes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from berg.errors import InvalidParameterError
from berg.plotting.figures import Heading, add_colour_bar, new_figure
from berg.plotting.maps import HEMIS, RESPONSE_LABEL, full_map
from berg.surface.painting import symmetric_scale
from berg.surface.panel import add_axes, draw_cortex, height_over_width, name_panel
from berg.surface.raster import View

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VIEWS: tuple[View, ...] = ("lateral", "ventral")


def plot_photograph_responses(
    photographs: npt.NDArray[np.uint8],
    lh: npt.NDArray[np.floating[Any]],
    rh: npt.NDArray[np.floating[Any]],
    *,
    title: str = "In silico fMRI responses to photographs",
    simulated: bool = False,
) -> Figure:
    """Draw photographs and, beside each, the responses of both hemispheres.

    Each photograph has four brains beside it: left and right hemisphere, from the side above and
    from below beneath. All share one colour scale that is symmetric about zero.

    Parameters
    ----------
    photographs : numpy.ndarray of uint8, shape (n_images, 3, height, width)
        RGB images.
    lh, rh : numpy.ndarray of floating dtype, shape (n_images, 163842) or (n_images, 10242)
        Responses in z-scored units; NaN vertices stay grey.
    title : str
        Heading.
    simulated : bool
        Whether to mark the figure as coming from a simulated subject.

    Returns
    -------
    matplotlib.figure.Figure
        12 inches wide: two photographs a row.

    Raises
    ------
    InvalidParameterError
        The arrays have other shapes, or no finite value.
    MissingExtraError
        matplotlib is not installed.
    """
    if photographs.ndim != 4 or photographs.shape[1] != 3 or photographs.dtype != np.uint8:
        raise InvalidParameterError(
            "the photographs are not a batch of RGB images",
            got=f"{photographs.dtype} {photographs.shape}",
            accepted="uint8 (n_images, 3, height, width)",
        )
    if not 0 < len(photographs) == len(lh) == len(rh):
        raise InvalidParameterError(
            "each photograph needs its responses",
            got=f"{len(photographs)} photographs, {len(lh)} and {len(rh)} rows of responses",
            accepted="the same number of each, at least one",
        )
    maps = {
        "lh": [full_map(row, "lh") for row in lh],
        "rh": [full_map(row, "rh") for row in rh],
    }
    n_columns = min(2, len(photographs))
    n_rows = -(-len(photographs) // n_columns)
    heading = Heading(title, simulated)
    photo, width, head, gap = 1.6, 2.05, heading.height + 0.2, 0.2
    heights = [width * height_over_width(view) for view in _VIEWS]
    step = photo + 2 * width + 2 * gap, sum(heights) + gap
    figure = new_figure(n_columns * step[0] + gap, head + n_rows * step[1] + 0.6)
    scale = symmetric_scale(maps["lh"] + maps["rh"])
    for number, photograph in enumerate(photographs):
        row, column = divmod(number, n_columns)
        left, top = gap + column * step[0], head + row * step[1]
        axes = add_axes(figure, left, top + (sum(heights) - photo) / 2, photo, photo)
        axes.imshow(photograph.transpose(1, 2, 0), interpolation="hanning")
        for view, height in zip(_VIEWS, heights, strict=True):
            for side, hemi in enumerate(HEMIS):
                axes = add_axes(figure, left + photo + gap / 2 + side * width, top, width, height)
                draw_cortex(axes, hemi, view, maps[hemi][number], scale)
                if number < n_columns and view == _VIEWS[0]:
                    name_panel(axes, hemi, view, " and ".join(_VIEWS))
            top += height
    middle = figure.get_figwidth() / 2
    add_colour_bar(figure, middle, head + n_rows * step[1], scale, RESPONSE_LABEL)
    heading.write(figure)
    return figure
