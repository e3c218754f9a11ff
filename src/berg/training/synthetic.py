"""NSD-synthetic's one session: mean responses, and the noise ceiling that its trials tell."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from berg.scoring import average_repeats, ncsnr_from_trials
from berg.training.trial_files import (
    Buffers,
    TrialFile,
    check_sessions,
    read_into,
    slices,
    trial_buffers,
)
from berg.training.zscores import zscore

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int32]

_PIECE_WIDTH = 1024  # vertices that a thread computes together, in float64


@dataclass(frozen=True)
class SyntheticTrials:
    """What is left of NSD-synthetic's one session, of one hemisphere.

    Attributes
    ----------
    means : (n_images, n_vertices) float32
        Mean responses, z-scored, over the repeats that exist; zero where none does.
    ncsnr : (n_vertices,) float32
        Noise-ceiling signal-to-noise ratio; NaN where it is undefined.
    n_missing : (n_vertices,) int32
        Missing trials.
    """

    means: Float32s
    ncsnr: Float32s
    n_missing: Counts


def synthetic_trials(
    file: TrialFile, image: Int64s, *, buffers: Buffers | None = None
) -> SyntheticTrials:
    """Z-score one session, average the repeats of each image, and estimate the ncsnr.

    Parameters
    ----------
    file : TrialFile
        The session of one hemisphere.
    image : (n_trials,) int64
        Image of each trial, 0-based; every image up to the largest occurs, and at least
        one occurs twice.
    buffers : pair of (n_numbers,) float32, optional
        As for `reduce_trials`.

    Returns
    -------
    SyntheticTrials
        Computed in float64.

    Raises
    ------
    InvalidParameterError
        If `image` does not fit the file, or no image is repeated.
    """
    check_sessions([file], len(image))
    trials = read_into(file, (buffers or trial_buffers([file]))[0])
    result = SyntheticTrials(
        np.empty((image.max() + 1, file.n_vertices), np.float32),
        np.empty(file.n_vertices, np.float32),
        np.empty(file.n_vertices, np.int32),
    )

    def compute(piece: slice) -> None:
        z = zscore(trials[:, piece])
        averaged = average_repeats(z, image)
        result.means[:, piece] = averaged.means
        result.n_missing[piece] = averaged.n_missing
        result.ncsnr[piece] = ncsnr_from_trials(z, image)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compute, slices(file.n_vertices, _PIECE_WIDTH)))
    return result
