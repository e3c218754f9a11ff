"""Figures: maps on the cortex, photographs beside responses, and the accuracy of models.

No global state is touched: no pyplot, no backend, no settings. A figure is returned, and
``figure.savefig(path)`` writes it; `save_figure` writes text in SVG as text, and the same file
each time.
"""

from berg.plotting.accuracy import plot_accuracy
from berg.plotting.accuracy_files import save_accuracy_figures
from berg.plotting.accuracy_maps import DEFAULT_ROIS, MEASURES, accuracy_map
from berg.plotting.figures import SIMULATED_NOTE, check_matplotlib
from berg.plotting.files import FORMATS, save_figure
from berg.plotting.maps import RESPONSE_LABEL, RESPONSE_UNITS, VertexMap
from berg.plotting.photographs import plot_photograph_responses
from berg.plotting.roi_bars import plot_roi_accuracy
from berg.plotting.surfaces import plot_surface
from berg.roi_accuracy import LEAST_CEILING

__all__ = [
    "DEFAULT_ROIS",
    "FORMATS",
    "LEAST_CEILING",
    "MEASURES",
    "RESPONSE_LABEL",
    "RESPONSE_UNITS",
    "SIMULATED_NOTE",
    "VertexMap",
    "accuracy_map",
    "check_matplotlib",
    "plot_accuracy",
    "plot_photograph_responses",
    "plot_roi_accuracy",
    "plot_surface",
    "save_accuracy_figures",
    "save_figure",
]
