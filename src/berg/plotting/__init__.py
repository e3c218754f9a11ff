"""Figures: maps on the cortex, and photographs beside responses.

No global state is touched: no pyplot, no backend, no settings. A figure is returned, and
``figure.savefig(path)`` writes it; `save_figure` writes text in SVG as text, and the same file
each time.
"""

from berg.plotting.figures import SIMULATED_NOTE, check_matplotlib
from berg.plotting.files import FORMATS, save_figure
from berg.plotting.maps import RESPONSE_LABEL, RESPONSE_UNITS, VertexMap
from berg.plotting.photographs import plot_photograph_responses
from berg.plotting.surfaces import plot_surface

__all__ = [
    "FORMATS",
    "RESPONSE_LABEL",
    "RESPONSE_UNITS",
    "SIMULATED_NOTE",
    "VertexMap",
    "check_matplotlib",
    "plot_photograph_responses",
    "plot_surface",
    "save_figure",
]
