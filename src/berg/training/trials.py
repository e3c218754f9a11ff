"""One pass over a hemisphere's sessions: z-score, average the repeats that exist, reduce.

What the regression, the validation and the test need of 30,000 trials are sums over images of
a weight times the image's mean response. Each session adds its trials to those sums, in one
matrix product, and is forgotten: memory does not grow with the sessions.

To divide by an image's repeats before the last of them is read, one must know which exist. The
design knows how many were shown; vertices that lack a whole session are recognised by three
trials of its file, before the pass. A vertex that turns out to be missing in another way is
computed from a second reading.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from berg.training.shown_images import Group, ShownImages, match_images
from berg.training.trial_files import (
    Buffers,
    TrialFile,
    check_sessions,
    lacking_vertices,
    read_ahead,
    slices,
    trial_buffers,
)
from berg.training.zscores import zscore, zscore_into

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int32]
Mask = npt.NDArray[np.bool_]

__all__ = ["Group", "ReducedTrials", "reduce_trials"]

logger = logging.getLogger(__name__)

# Vertices multiplied at once, and vertices that one thread z-scores: 750 trials of them are 25
# and 3 MB. Measured on two cores: half and twice as many take up to a fifth longer. They do not
# depend on the number of threads, so that the order of sums does not.
_BLOCK_WIDTH = 8192
_PIECE_WIDTH = 1024
_AGAIN_BYTES = 256 * 2**20  # means and counts per image, of the vertices that are read again


@dataclass(frozen=True)
class ReducedTrials:
    """What is left of all trials of one hemisphere.

    Attributes
    ----------
    products : tuple of (k, n_vertices) float32
        Per group, its rows, transposed, times the mean responses to its images.
    means : (n_kept, n_vertices) float32
        Mean responses to the kept images, over the repeats that exist; zero, the mean of
        z-scores, where none does.
    n_missing : (n_vertices,) int32
        Missing trials: NaN, or of a session in which the vertex is constant.
    n_present : tuple of (n_vertices,) int32
        Per group, its images of which at least one repeat exists.
    """

    products: tuple[Float32s, ...]
    means: Float32s
    n_missing: Counts
    n_present: tuple[Counts, ...]


def reduce_trials(
    sessions: Sequence[TrialFile],
    image: Int64s,
    groups: Sequence[Group],
    kept: Int64s,
    *,
    buffers: Buffers | None = None,
    bar: tqdm[Any] | None = None,
) -> ReducedTrials:
    """Z-score each session's trials, average the repeats of each image, and reduce.

    Each file is read once, the next one while one is computed with, and at most once more for
    vertices that miss single trials. Resident are two sessions, the result, and some 100 MB.

    Parameters
    ----------
    sessions : sequence of TrialFile
        The sessions of one hemisphere.
    image : (n_trials,) int64
        Id of the image of each trial, in the order of the sessions. Trials of images that are
        neither in a group nor kept count for the z-scores only.
    groups : sequence of Group
        What to sum up. An image may be in several groups; one that is never shown adds nothing.
    kept : (n_kept,) int64
        Ids of the images whose mean responses are wanted themselves.
    buffers : pair of (n_numbers,) float32, optional
        From `trial_buffers`, for those who reduce one hemisphere after the other.
    bar : tqdm, optional
        Goes forward by one per session; vertices that are read again, a part at a time, are
        added to its total.

    Returns
    -------
    ReducedTrials
        The same bytes on every run with the same libraries and number of threads.

    Raises
    ------
    InvalidParameterError
        If sessions, images and rows do not fit together.
    """
    check_sessions(sessions, len(image))
    buffers = buffers or trial_buffers(sessions)
    ends = np.cumsum([file.n_trials for file in sessions])
    shown = match_images(np.split(image, ends[:-1]), groups, kept)
    n_vertices = sessions[0].n_vertices
    lacking = np.stack([lacking_vertices(file) for file in sessions])
    result = ReducedTrials(
        tuple(np.zeros((rows.shape[1], n_vertices), np.float32) for rows in shown.rows),
        np.zeros((len(kept), n_vertices), np.float32),
        np.zeros(n_vertices, np.int32),
        _count_present(shown, lacking),
    )
    irregular = np.zeros(n_vertices, np.bool_)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for session, trials in enumerate(read_ahead(sessions, buffers)):
            irregular |= _add_session(result, trials, session, shown, lacking, pool)
            if bar is not None:
                bar.update()
    del trials  # a view of one of the two sessions
    logger.info(
        "%d of %d vertices miss trials; %d of them were read again, for single ones",
        np.count_nonzero(result.n_missing),
        n_vertices,
        np.count_nonzero(irregular),
    )
    _reduce_again(result, sessions, shown, np.flatnonzero(irregular), buffers, bar)
    return result


def _count_present(shown: ShownImages, lacking: Mask) -> tuple[Counts, ...]:
    """Count, per group, the images that are left where vertices lack whole sessions."""
    counts = tuple(
        np.full(lacking.shape[1], np.count_nonzero(members), np.int32) for members in shown.members
    )
    some = np.flatnonzero(lacking.any(axis=0))
    for piece in slices(len(some), _PIECE_WIDTH):
        left = shown.repeats @ (~lacking[:, some[piece]]).astype(np.float32)
        for count, members in zip(counts, shown.members, strict=True):
            count[some[piece]] = np.count_nonzero(left[members] > 0, axis=0)
    return counts


def _add_session(
    result: ReducedTrials,
    trials: Float32s,
    session: int,
    shown: ShownImages,
    lacking: Mask,
    pool: Executor,
) -> Mask:
    """Add one session to the result; find the vertices that miss other trials than presumed.

    Parameters
    ----------
    trials : (n_trials, n_vertices) float32
        Its single-trial responses.
    lacking : (n_sessions, n_vertices) bool
        Vertices presumed to miss all trials of a session.

    Returns
    -------
    (n_vertices,) bool
        Vertices to which wrong numbers may have been added.
    """
    n_trials, n_vertices = trials.shape
    image = shown.image[session]
    weights = list(_trial_weights(shown, session))
    kept = list(zip(*np.nonzero(shown.kept[:, None] == image), strict=True))
    n_missing = np.empty(n_vertices, np.int32)
    buffer = np.empty((n_trials, min(_BLOCK_WIDTH, n_vertices)), np.float32)
    for block in slices(n_vertices, _BLOCK_WIDTH):
        raw = trials[:, block]
        z = buffer[:, : raw.shape[1]]
        n_missing[block] = _zscore_block(z, raw, shown.repeats[image], lacking[:, block], pool)
        for products, (some_trials, weight) in zip(result.products, weights, strict=True):
            products[:, block] += weight @ z[some_trials]
        for place, trial in kept:
            result.means[place, block] += z[trial] / shown.total[image[trial]]
    result.n_missing[:] += n_missing
    return np.asarray(n_missing != np.where(lacking[session], n_trials, 0))


def _zscore_block(
    z: Float32s, trials: Float32s, repeats: Float32s, lacking: Mask, pool: Executor
) -> Counts:
    """Z-score trials, times their image's repeats in all over those presumed to exist.

    Parameters
    ----------
    z : (n_trials, n_vertices) float32
        Takes the result; zero where a trial is missing.
    trials : (n_trials, n_vertices) float32
        Single-trial responses of one session.
    repeats : (n_trials, n_sessions) float32
        Repeats of each trial's image in each session.
    lacking : (n_sessions, n_vertices) bool
        Vertices presumed to miss all trials of a session.

    Returns
    -------
    (n_vertices,) int32
        Missing trials.
    """
    in_all = repeats.sum(axis=1, keepdims=True)

    def compute(piece: slice) -> Counts:
        n_missing = zscore_into(z[:, piece], trials[:, piece])
        some = np.flatnonzero(lacking[:, piece].any(axis=0))
        # Measured: columns picked out take 15 times as long as columns in their places.
        columns = slice(None) if 15 * len(some) > len(n_missing) else some
        absent = repeats @ lacking[:, piece][:, columns].astype(np.float32)  # whole numbers: exact
        # A trial that exists is a repeat that does; where z is zero, there may be none.
        z[:, piece][:, columns] *= in_all / np.maximum(in_all - absent, 1)
        return n_missing

    return np.concatenate(list(pool.map(compute, slices(z.shape[1], _PIECE_WIDTH))))


def _trial_weights(shown: ShownImages, session: int) -> Iterator[tuple[slice | Int64s, Float32s]]:
    """Give, per group, the trials to multiply and their rows over their repeats: (k, n_trials)."""
    image = shown.image[session]
    for rows, members in zip(shown.rows, shown.members, strict=True):
        trials = np.flatnonzero(members[image])
        # Picking trials copies them, which costs as much as multiplying a few by zero.
        if 2 * len(trials) > len(image):
            yield slice(None), rows[image].T / shown.total[image]
        else:
            yield trials, rows[image[trials]].T / shown.total[image[trials]]


def _reduce_again(
    result: ReducedTrials,
    sessions: Sequence[TrialFile],
    shown: ShownImages,
    vertices: Int64s,
    buffers: Buffers,
    bar: tqdm[Any] | None,
) -> None:
    """Overwrite some vertices of the result, whatever trials they miss.

    Each chunk of them reads only the vertices from its first to its last: all chunks together
    read no file more than once.
    """
    n_shown = len(shown.repeats)
    width = max(1, _AGAIN_BYTES // (n_shown * (4 + 4)))  # bytes of a float32 and an int32
    chunks = [vertices[cut] for cut in slices(len(vertices), width)]
    if len(chunks) > 1:
        logger.warning(
            "%d vertices miss single trials: they are read again, in %d parts",
            len(vertices),
            len(chunks),
        )
    if bar is not None and bar.total is not None:
        bar.total += len(chunks) * len(sessions)
    for chunk in chunks:
        means, present = _mean_responses(sessions, shown, chunk, buffers, bar)
        for count, members in zip(result.n_present, shown.members, strict=True):
            count[chunk] = np.count_nonzero(present[members], axis=0)
        for products, rows in zip(result.products, shown.rows, strict=True):
            products[:, chunk] = rows.T @ means
        result.means[:, chunk] = np.where(shown.kept[:, None] >= 0, means[shown.kept], 0.0)


def _mean_responses(
    sessions: Sequence[TrialFile],
    shown: ShownImages,
    vertices: Int64s,
    buffers: Buffers,
    bar: tqdm[Any] | None,
) -> tuple[Float32s, Counts]:
    """Average and count the repeats that exist of every image: (n_shown, n_vertices) each."""
    means = np.zeros((len(shown.repeats), len(vertices)), np.float32)
    present = np.zeros(means.shape, np.int32)
    span = slice(int(vertices[0]), int(vertices[-1]) + 1)
    for trials, image in zip(read_ahead(sessions, buffers, span), shown.image, strict=True):
        for piece in slices(len(vertices), _PIECE_WIDTH):
            z = zscore(trials[:, vertices[piece] - span.start])
            exists = ~np.isnan(z)
            z[~exists] = 0.0
            for trial, shows in enumerate(image):  # 40 times as fast as numpy.add.at
                means[shows, piece] += z[trial]
                present[shows, piece] += exists[trial]
        if bar is not None:
            bar.update()
    return np.divide(means, np.maximum(present, 1), out=means), present
