"""The experimental design: which image was shown in which trial, and what that divides them into.

Images are numbered as everywhere in the package by their 0-based place among NSD's 73,000
(img_num); the files count from 1.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from berg.errors import FileFormatError, InvalidParameterError
from berg.layout import NSDFiles
from berg.nsd.missing import GET_AGAIN, check_is_file

Indices = npt.NDArray[np.int64]

# A session has 12 runs of 62 or 63 trials (Allen et al., 2022,
# https://doi.org/10.1038/s41593-021-00962-x); for files that leave out `stimpattern`.
_TRIALS_PER_SESSION = 750
# Test images were seen three times in the sessions that all eight subjects completed.
_TEST_SESSIONS = 30
_TEST_REPEATS = 3


@dataclass(frozen=True, eq=False)
class Design:
    """The design of NSD-core.

    Parameters
    ----------
    masterordering : (n_trials,) int64
        Column of `subject_images` that each trial shows, the same for all subjects.
    subject_images : (n_subjects, n_images) int64
        0-based 73k id of each subject's images; those of the first `n_shared` columns are
        the same for all subjects.
    n_shared : int
    trials_per_session : int
    """

    masterordering: Indices
    subject_images: Indices
    n_shared: int
    trials_per_session: int

    @property
    def n_subjects(self) -> int:
        """Subjects that the design orders trials for."""
        return len(self.subject_images)

    @property
    def n_sessions(self) -> int:
        """Sessions that the design orders; a subject may have completed fewer."""
        return len(self.masterordering) // self.trials_per_session

    @property
    def shared_images(self) -> Indices:
        """Sorted 73k ids of the images that all subjects were to see."""
        return np.sort(self.subject_images[0, : self.n_shared])

    def trial_images(self, subject: int, n_sessions: int) -> Indices:
        """Image of each trial of a subject's first sessions.

        Parameters
        ----------
        subject : int
            Counted from 1.
        n_sessions : int

        Returns
        -------
        (n_sessions * trials_per_session,) int64
            0-based 73k ids.

        Raises
        ------
        InvalidParameterError
            If the design has no such subject, or not that many sessions.
        """
        if not 1 <= subject <= self.n_subjects:
            raise InvalidParameterError(
                f"the design has no subject {subject}",
                got=f"subject={subject}",
                accepted=f"1 to {self.n_subjects}",
            )
        if not 1 <= n_sessions <= self.n_sessions:
            raise InvalidParameterError(
                "the design does not order that many sessions",
                got=f"n_sessions={n_sessions}",
                accepted=f"1 to {self.n_sessions}",
                do="ask for fewer sessions, or leave `--sessions` out to use all there are",
            )
        shown = self.masterordering[: n_sessions * self.trials_per_session]
        images: Indices = self.subject_images[subject - 1, shown]
        return images


@dataclass(frozen=True, eq=False)
class Partition:
    """A subject's images, as the model card divides them: sorted 0-based 73k ids, int64.

    Attributes
    ----------
    train : (n_train,) int64
        Images of this subject alone.
    val, test : (n_val,), (n_test,) int64
        Images shared by all subjects.
    """

    train: Indices
    val: Indices
    test: Indices


def read_design(files: NSDFiles) -> Design:
    """Read the design of NSD-core.

    Parameters
    ----------
    files : NSDFiles

    Raises
    ------
    NSDFilesNotFoundError
        If the file does not exist.
    FileFormatError
        If it is not a MATLAB 5 file, lacks a variable, or its numbers do not fit together.
    """
    path = files.design
    variables = _load(path, "masterordering", "subjectim", "stimpattern")
    order = _counts_from_0(path, variables, "masterordering").reshape(-1)
    images = _counts_from_0(path, variables, "subjectim")
    if order.max() >= images.shape[1]:
        raise _unfit(
            path,
            f"masterordering names image {order.max() + 1:,}, subjectim has {images.shape[1]:,}",
            "every trial's image among the columns of subjectim",
        )
    ids = np.sort(images, axis=1)
    repeated = ids[:, 1:] == ids[:, :-1]
    if repeated.any():
        row, column = np.argwhere(repeated)[0]
        raise _unfit(
            path,
            f"row {row + 1} of subjectim has image {ids[row, column] + 1:,} more than once",
            "every image of a subject once",
        )
    same = (images == images[0]).all(axis=0)
    n_shared = len(same) if same.all() else int(np.argmin(same))
    if not 0 < n_shared < len(same):
        raise _unfit(
            path,
            f"subjectim of {len(images)} subjects, {n_shared:,} of {len(same):,} images shared",
            "two subjects or more, with shared images in the first columns and their own after",
        )
    return Design(order, images, n_shared, _trials_per_session(path, variables, len(order)))


def read_synthetic_design(files: NSDFiles) -> Indices:
    """Read the design of NSD-synthetic, one session that is the same for all subjects.

    Parameters
    ----------
    files : NSDFiles

    Returns
    -------
    (n_trials,) int64
        0-based synthetic image of each trial.

    Raises
    ------
    NSDFilesNotFoundError, FileFormatError
        As `read_design`; or if an image has no trial.
    """
    path = files.synthetic_design
    order = _counts_from_0(path, _load(path, "masterordering"), "masterordering").reshape(-1)
    if not (trials := np.bincount(order)).all():
        raise _unfit(
            path,
            f"masterordering never shows image {np.argmin(trials) + 1}",
            f"every image from 1 to {len(trials)}",
        )
    return order


def partition_images(design: Design, subject: int, n_sessions: int) -> Partition:
    """Divide the images that a subject saw into training, validation and test images.

    Training images are the subject's own. Of the shared ones, those seen exactly three times
    within the 30 sessions that every subject completed are for the test, the others for
    validation.

    Parameters
    ----------
    design : Design
    subject : int
        Counted from 1.
    n_sessions : int
        Sessions there are; if fewer than 30, all of them count for the test images.

    Returns
    -------
    Partition

    Raises
    ------
    InvalidParameterError
        If the design has no such subject, or not that many sessions.
    """
    seen = np.unique(design.trial_images(subject, n_sessions))
    counted = design.trial_images(subject, min(n_sessions, _TEST_SESSIONS))
    images, repeats = np.unique(counted, return_counts=True)
    shared = design.shared_images
    test = np.intersect1d(images[repeats == _TEST_REPEATS], shared, assume_unique=True)
    val = np.setdiff1d(np.intersect1d(seen, shared, assume_unique=True), test, assume_unique=True)
    return Partition(np.setdiff1d(seen, shared, assume_unique=True), val, test)


def _trials_per_session(path: Path, variables: dict[str, Any], n_trials: int) -> int:
    """Trials of every session, which are as many in all of them."""
    pattern = variables.get("stimpattern")
    if pattern is None:
        if n_trials % _TRIALS_PER_SESSION:
            raise _unfit(
                path,
                f"{n_trials:,} trials, and no stimpattern that divides them into sessions",
                f"without it, sessions of {_TRIALS_PER_SESSION} trials",
            )
        return _TRIALS_PER_SESSION
    accepted = "one in each trial, (n_sessions, n_runs, n_trials), as many in all sessions"
    # MATLAB drops a last axis of length 1.
    if pattern.ndim not in (2, 3) or not pattern.size or pattern.dtype.kind not in "buif":
        raise _unfit(path, f"stimpattern of shape {pattern.shape}, {pattern.dtype}", accepted)
    per_session = np.count_nonzero(pattern.reshape(len(pattern), -1), axis=1)
    if len(np.unique(per_session)) != 1 or per_session.sum() != n_trials:
        raise _unfit(
            path,
            f"stimpattern has {per_session.sum():,} trials in {len(pattern)} sessions, "
            f"{per_session.min()} to {per_session.max()} each; masterordering has {n_trials:,}",
            accepted,
        )
    return int(per_session[0])


def _load(path: Path, *names: str) -> dict[str, Any]:
    check_is_file(path)
    try:
        variables: dict[str, Any] = loadmat(path, variable_names=names)
    # What SciPy raises for files cut off, overwritten with noise, or of MATLAB 7.3.
    except (
        MatReadError,
        zlib.error,
        OSError,
        ValueError,
        TypeError,
        LookupError,
        NotImplementedError,
        OverflowError,
        MemoryError,
    ) as err:
        raise _unfit(path, f"{type(err).__name__}: {err}", "a whole MATLAB 5 file") from err
    return variables


def _counts_from_0(path: Path, variables: dict[str, Any], name: str) -> Indices:
    """Return a matrix of whole numbers from 1, less 1."""
    value = variables.get(name)
    if value is None:
        there = ", ".join(repr(key) for key in variables if not key.startswith("__"))
        raise _unfit(path, f"no variable {name}, but {there or 'none'}", f"a variable {name}")
    accepted = f"whole numbers from 1 to {2**31 - 1:,} in a matrix"
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "uif":
        raise _unfit(path, f"{name} is no matrix of real numbers", accepted)
    if value.ndim != 2 or not value.size or (name == "masterordering" and 1 not in value.shape):
        raise _unfit(path, f"{name} of shape {value.shape}", accepted)
    right = (value >= 1) & (value < 2**31) & (value == np.floor(value))
    if not right.all():
        raise _unfit(path, f"{name} holds {value[~right][0]}", accepted)
    return value.astype(np.int64) - 1


def _unfit(path: Path, got: str, accepted: str) -> FileFormatError:
    return FileFormatError(
        f"{path} is not an experimental design of NSD", got=got, accepted=accepted, do=GET_AGAIN
    )
