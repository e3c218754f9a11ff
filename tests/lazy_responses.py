"""Small responses for tests of `berg.responses`, and their materialised arrays by plain NumPy."""

from __future__ import annotations

import numpy as np

from berg.responses import Readout, Responses
from berg.selection import Regions
from conftest import ROIS, tiny_card

N_IMAGES, N_COMPONENTS, N_LH, N_RH = 9, 5, 12, 12


class FakeStore:
    """Lazy scores that remember how many rows they were asked for at once."""

    def __init__(self, scores: np.ndarray) -> None:
        self._scores = scores
        self.shape, self.dtype = scores.shape, scores.dtype
        self.reads: list[int] = []

    def __getitem__(self, rows):
        if isinstance(rows, slice):
            assert rows.step in (None, 1)
        else:
            assert rows.dtype == np.int64
            assert (np.diff(rows) > 0).all()
        read = self._scores[rows]
        self.reads.append(len(read))
        return read


def readout(
    seed: int = 1, n_lh: int = N_LH, n_rh: int = N_RH, n_components: int = N_COMPONENTS
) -> Readout:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, np.float32)

    return Readout(
        lh_coef=normal(n_lh, n_components),
        lh_intercept=normal(n_lh),
        rh_coef=normal(n_rh, n_components),
        rh_intercept=normal(n_rh),
        lh_vertices=np.arange(n_lh),
        rh_vertices=np.arange(n_rh),
    )


def scores(n_images: int = N_IMAGES, seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n_images, N_COMPONENTS), np.float32)


def regions() -> Regions:
    return Regions(
        tiny_card(),
        1,
        lambda: {
            hemi: {name: np.array(each[hemi], np.int64) for name, each in ROIS.items()}
            for hemi in ("lh", "rh")
        },
    )


def responses(n_images: int = N_IMAGES, **options) -> Responses:
    return Responses(scores(n_images), readout(), regions=regions(), **options)


def materialised(given: Responses) -> tuple[np.ndarray, np.ndarray]:
    """All responses in float64, as the model's definition has them."""
    of, rows = given.readout, np.asarray(given.scores, np.float64)
    return (
        rows @ of.lh_coef.astype(np.float64).T + of.lh_intercept,
        rows @ of.rh_coef.astype(np.float64).T + of.rh_intercept,
    )


def both(given: Responses) -> np.ndarray:
    return np.concatenate(materialised(given), axis=1)
