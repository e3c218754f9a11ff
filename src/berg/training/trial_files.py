"""Sessions of trials on disk, read one after another while the last one is computed with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import numpy.typing as npt

from berg.errors import InvalidParameterError

Float32s = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]
Buffers = tuple[Float32s, Float32s]


class TrialFile(Protocol):
    """One session's trials of one hemisphere, as `berg.nsd.betas.BetaFile` is."""

    @property
    def n_vertices(self) -> int:
        """Vertices of the hemisphere."""

    @property
    def n_trials(self) -> int:
        """Trials of the session, at least one."""

    def read(self, out: Float32s | None = None, *, vertices: slice | None = None) -> Float32s:
        """Read all trials, (n_trials, n_vertices) float32, of a slice of the vertices or all."""

    def read_trials(self, indices: Int64s) -> Float32s:
        """Read some trials, (n_indices, n_vertices) float32."""


def check_sessions(sessions: Sequence[TrialFile], n_trials: int) -> None:
    """Check that sessions are of one hemisphere, and have so many trials together.

    Raises
    ------
    InvalidParameterError
        If they do not, or there is none.
    """
    widths = sorted({file.n_vertices for file in sessions})
    if len(widths) != 1:
        raise InvalidParameterError(
            "sessions are not trials of one hemisphere",
            got=f"{len(sessions)} sessions, numbers of vertices {widths}",
            accepted="at least one session, all of one number of vertices",
        )
    if (found := sum(file.n_trials for file in sessions)) != n_trials:
        raise InvalidParameterError(
            "trials and the images they show do not fit together",
            got=f"{found} trials in {len(sessions)} sessions, images of {n_trials} trials",
            accepted="one image for each trial, in the order of the sessions",
        )


def trial_buffers(files: Sequence[TrialFile]) -> Buffers:
    """Make the two buffers that `read_ahead` takes turns with, for one call of it after another.

    The system gives fresh memory at half the speed at which a session is read into memory that
    is there (measured: 1.1 s for 491 MB).

    Parameters
    ----------
    files : sequence of TrialFile
        All that will be read.

    Returns
    -------
    pair of (n_numbers,) float32
        Each as long as the largest file.
    """
    n_numbers = max(file.n_trials * file.n_vertices for file in files)
    return np.empty(n_numbers, np.float32), np.empty(n_numbers, np.float32)


def read_into(file: TrialFile, buffer: Float32s, vertices: slice | None = None) -> Float32s:
    """Read a file into the beginning of a buffer; return that, (n_trials, n_vertices)."""
    n_vertices = len(range(file.n_vertices)[vertices or slice(None)])
    out = buffer[: file.n_trials * n_vertices].reshape(file.n_trials, n_vertices)
    return file.read(out, vertices=vertices)


def read_ahead(
    sessions: Sequence[TrialFile], buffers: Buffers, vertices: slice | None = None
) -> Iterator[Float32s]:
    """Read sessions in order, the next one in a thread while the caller computes.

    Parameters
    ----------
    sessions : sequence of TrialFile
        At least one; all of one number of vertices.
    buffers : pair of (n_numbers,) float32
        From `trial_buffers`.
    vertices : slice, optional
        Neighbouring vertices to read. None reads all.

    Yields
    ------
    (n_trials, n_vertices) float32
        Overwritten once the next one is asked for: two buffers take turns.
    """
    with ThreadPoolExecutor(1) as reader:
        pending = reader.submit(read_into, sessions[0], buffers[0], vertices)
        for i, following in enumerate([*sessions[1:], None]):
            trials = pending.result()
            if following is not None:
                pending = reader.submit(read_into, following, buffers[(i + 1) % 2], vertices)
            yield trials


def lacking_vertices(file: TrialFile) -> npt.NDArray[np.bool_]:
    """Presume from three trials which vertices a session lacks.

    Parameters
    ----------
    file : TrialFile
        Its first, middle and last trial are read.

    Returns
    -------
    (n_vertices,) bool
        Whether a vertex is missing in one of the three, or the same in all. This finds every
        vertex that the session lacks, and may find others.
    """
    frames = file.read_trials(np.unique([0, file.n_trials // 2, file.n_trials - 1]))
    constant = (frames == frames[:1]).all(axis=0)
    return np.asarray(constant | ~np.isfinite(frames).all(axis=0))


def slices(length: int, width: int) -> Iterator[slice]:
    """Cut a length into slices of at most a width, such as the vertices computed together."""
    return (slice(start, min(start + width, length)) for start in range(0, length, width))
