"""Everything random about a simulated NSD tree, each use of chance with a stream of its own."""

from __future__ import annotations

from enum import IntEnum, auto

import numpy as np

from berg.simulation.subject import stream


class Use(IntEnum):
    """What chance is used for."""

    DESIGN = auto()
    IMAGES = auto()
    SYNTHETIC_IMAGES = auto()
    SYNTHETIC_TRIALS = auto()
    REGIONS = auto()
    LACKING_REGION = auto()
    TRANSFORM = auto()
    READOUTS = auto()
    TUNING = auto()
    SCALE = auto()
    SESSION = auto()


def chance(seed: int, use: Use, subject: int = 0, *key: int) -> np.random.Generator:
    """Return the generator of one use, for what subjects share (0) or for a subject."""
    return np.random.default_rng(stream(seed, int(use), subject, *key))
