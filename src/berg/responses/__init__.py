"""What comes out of an encoding: lazy rank-250 responses, maps of the surface, files.

An image is 250 scores, and every response is linear in them (`readout`). `Responses` (`lazy`) keeps
the scores and computes what is asked for: slices (`hemisphere`), statistics, dissimilarities
(`rdm`), rankings. `SurfaceMap` (`maps`) is one number a vertex. `arrays` and `npz` write to disk.
"""

from berg.responses.lazy import Responses
from berg.responses.maps import SurfaceMap
from berg.responses.npz import (
    SavedResponses,
    check_output_path,
    load_names,
    load_responses,
    save_responses,
)
from berg.responses.ranking import DrivingImages, RankedImages
from berg.responses.readout import Readout

__all__ = [
    "DrivingImages",
    "RankedImages",
    "Readout",
    "Responses",
    "SavedResponses",
    "SurfaceMap",
    "check_output_path",
    "load_names",
    "load_responses",
    "save_responses",
]
