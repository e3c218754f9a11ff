"""The design of a simulated NSD tree: which image is shown in which trial, and its two files."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count
from operator import le
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from berg.atomic import write_atomically
from berg.errors import InvalidParameterError
from berg.layout import NSDFiles

Indices = npt.NDArray[np.int64]
Part = Literal["train", "val", "test"]

N_SUBJECTS = 8
# Sessions that NSD's subjects 1 to 8 completed, of 40 (Allen et al., 2022). All completed 30.
_NSD_SESSIONS = (40, 40, 32, 30, 40, 32, 40, 30)
_NSD_COMMON_SESSIONS = 30
_NSD_TRIALS_PER_SESSION = 750
_NSD_IMAGES = 73_000
_RUNS_PER_SESSION = 12


@dataclass(frozen=True)
class TreeDesign:
    """Who saw what and when.

    Attributes
    ----------
    order : (n_trials,) int64
        Column of `subject_images` of each trial, 0-based, the same for all subjects.
    subject_images : (8, n_images) int64
        0-based ids; the first `n_shared` columns are shared and equal in all rows.
    n_shared, trials_per_session : int
    test_columns : (n_test,) int64
        Those of the shared columns that every subject sees three times, soon enough.
    n_ids : int
        Ids there are; only those in `subject_images` have an image.
    """

    order: Indices
    subject_images: Indices
    n_shared: int
    trials_per_session: int
    test_columns: Indices
    n_ids: int

    @property
    def n_sessions(self) -> int:
        """Sessions of the design; some subjects complete fewer."""
        return len(self.order) // self.trials_per_session

    def session_columns(self, session: int) -> Indices:
        """Return the column of each trial of a session, counted from 1."""
        stop = session * self.trials_per_session
        return self.order[stop - self.trials_per_session : stop]

    def columns(self, subject: int, part: Part) -> Indices:
        """Return the columns of the images of a part that a subject saw, in order of their ids."""
        sessions = completed_sessions(subject, self.n_sessions)
        seen = np.unique(self.order[: sessions * self.trials_per_session])
        test = np.isin(seen, self.test_columns)
        shared = seen < self.n_shared
        columns = seen[{"train": ~shared, "val": shared & ~test, "test": test}[part]]
        return columns[np.argsort(self.subject_images[subject - 1, columns])]


def completed_sessions(subject: int, n_sessions: int) -> int:
    """Return how many sessions a simulated subject completed.

    With 40 sessions NSD's own numbers; with 3 or more, the subjects that did not complete NSD
    lack the last one.
    """
    completed = _NSD_SESSIONS[subject - 1]
    if n_sessions == max(_NSD_SESSIONS):
        return completed
    return n_sessions - (n_sessions > 2 and completed < max(_NSD_SESSIONS))


def draw_design(
    n_sessions: int,
    n_train: int,
    n_test: int,
    n_val: int,
    rng: np.random.Generator,
    *,
    trials_per_session: int | None = None,
    all_ids: bool = True,
) -> TreeDesign:
    """Draw a design in which so many images have the repeats that make them what they are.

    Test images are shown three times within the sessions that every subject completed (at most
    30); validation images are shared too, but seen less often, or for the third time after session
    30; each subject's training images are shown one to three times, as there is room.

    Parameters
    ----------
    n_sessions : int
    n_train, n_test, n_val : int
        Training images of each subject, and shared images.
    rng : numpy.random.Generator
    trials_per_session : int, optional
        By default NSD's 750; more where the images need more, and fewer where all images have
        been shown as often as they may with fewer.
    all_ids : bool
        Whether there are NSD's 73,000 ids, of which few have an image; else only those in use.

    Returns
    -------
    TreeDesign

    Raises
    ------
    InvalidParameterError
        If a number is too small, the images do not fit into the trials, or into NSD's ids.
    """
    n_shared, n_used = n_test + n_val, n_test + n_val + N_SUBJECTS * n_train
    if min(n_sessions, n_train - 1, n_test - 1, n_val) < 1 or n_used > _NSD_IMAGES:
        raise InvalidParameterError(
            "no such design can be drawn",
            got=f"n_sessions={n_sessions}, n_train={n_train}, n_test={n_test}, n_val={n_val}",
            accepted="n_sessions and n_val from 1, n_train and n_test from 2, and "
            f"n_test + n_val + {N_SUBJECTS} * n_train up to {_NSD_IMAGES}",
        )
    early = min(
        _NSD_COMMON_SESSIONS,
        *(completed_sessions(subject, n_sessions) for subject in range(1, N_SUBJECTS + 1)),
    )
    n_early = 3 * n_test + n_val
    n_late = n_val if n_sessions > _NSD_COMMON_SESSIONS else 0

    def room(n_train: int) -> tuple[int, int]:
        """Return the least and the most trials a session."""
        least = max(
            -(-n_early // early),
            -(-n_late // max(n_sessions - early, 1)),
            -(-(n_early + n_late + n_train) // n_sessions),
        )
        return least, (n_early + n_late + n_val + 3 * n_train) // n_sessions

    least, most = room(n_train)
    if trials_per_session is None:
        trials_per_session = min(max(_NSD_TRIALS_PER_SESSION, least), most)
    if not least <= trials_per_session <= most:
        raise InvalidParameterError(
            "the images do not fit into the trials",
            got=f"{trials_per_session} trials in each of {n_sessions} sessions, for n_train="
            f"{n_train}, n_test={n_test}, n_val={n_val}",
            accepted=f"{least} to {most} trials a session"
            if least <= most
            else f"n_train={next(n for n in count(n_train) if le(*room(n)))} or more, with these "
            "sessions and other images",
            do="ask for other numbers of images or sessions",
        )

    shared = rng.permutation(n_shared)
    test, val, train = shared[:n_test], shared[n_test:], np.arange(n_shared, n_shared + n_train)
    order = np.full(n_sessions * trials_per_session, -1)
    in_time = rng.permutation(early * trials_per_session)[:n_early]
    order[in_time] = np.concatenate([test, test, test, val])
    if n_late:
        last = rng.permutation(np.arange(early * trials_per_session, len(order)))[:n_late]
        order[last] = val
    free = np.flatnonzero(order < 0)
    again = rng.permutation(np.concatenate([val, train, train]))[: len(free) - n_train]
    order[rng.permutation(free)] = np.concatenate([train, again])

    n_ids = _NSD_IMAGES if all_ids else n_used
    ids = rng.permutation(n_ids)[:n_used]
    both = np.broadcast_to(np.sort(ids[:n_shared]), (N_SUBJECTS, n_shared))
    subject_images = np.hstack([both, ids[n_shared:].reshape(N_SUBJECTS, n_train)])
    return TreeDesign(order, subject_images, n_shared, trials_per_session, np.sort(test), n_ids)


def write_design(files: NSDFiles, design: TreeDesign) -> None:
    """Write NSD-core's design as a MATLAB 5 file, with NSD's names, shapes and dtypes."""
    sessions = design.order.reshape(design.n_sessions, -1)
    repeats = [np.bincount(np.bincount(columns), minlength=4)[1:4] for columns in sessions]
    _save_mat(
        files.design,
        masterordering=(design.order + 1)[None].astype(np.uint16),
        subjectim=(design.subject_images + 1).astype(np.int32),
        sharedix=(design.subject_images[:1, : design.n_shared] + 1).astype(np.int32),
        basiccnt=np.stack(repeats, axis=1).astype(np.uint16),
        stimpattern=_stimulus_pattern(design),
    )


def write_synthetic_design(files: NSDFiles, trials: Indices) -> None:
    """Write NSD-synthetic's design: the 0-based image of each trial, as 1-based ids."""
    _save_mat(files.synthetic_design, masterordering=(trials + 1)[None].astype(np.uint16))


def _stimulus_pattern(design: TreeDesign) -> npt.NDArray[np.uint8]:
    """Mark the slots of each run that show an image; (n_sessions, n_runs, n_slots).

    A run starts with three blank slots and ends with four or more, as NSD's do.
    """
    in_run = np.diff(
        np.arange(_RUNS_PER_SESSION + 1) * design.trials_per_session // _RUNS_PER_SESSION
    )
    slot = np.arange(in_run.max() + 7) - 3
    pattern = ((slot >= 0) & (slot < in_run[:, None])).astype(np.uint8)
    return np.repeat(pattern[None], design.n_sessions, axis=0)


def _save_mat(path: Path, **variables: npt.NDArray[np.integer]) -> None:
    from scipy.io import savemat

    with write_atomically(path) as file:
        savemat(file, variables, format="5", do_compression=True)
