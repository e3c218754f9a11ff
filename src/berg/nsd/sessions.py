"""Which sessions of a subject there are, and which of their files are missing."""

from __future__ import annotations

import re
from pathlib import Path

from berg.errors import FileFormatError, InvalidParameterError
from berg.layout import NSDFiles
from berg.nsd.design import Design
from berg.nsd.missing import ACCESS, files_not_found

SESSIONS_DO = (
    f"{ACCESS}; where only a subject's last sessions are missing, `--sessions N` uses the first N"
)

# Sessions completed by subjects 1 to 8 of the 40 of 750 trials that NSD's design orders
# (Allen et al., 2022, https://doi.org/10.1038/s41593-021-00962-x).
_COMPLETED = (40, 40, 32, 30, 40, 32, 40, 30)
_NSD_SESSIONS, _NSD_TRIALS_PER_SESSION = 40, 750
_SESSION_NAME = re.compile(r"(lh|rh)\.betas_session(\d{2,})\.mgh")


def session_files(
    files: NSDFiles, subject: int, design: Design | None, n_sessions: int | None = None
) -> tuple[int, list[Path]]:
    """Decide which sessions to use, and find what is missing for that.

    Parameters
    ----------
    files, subject, n_sessions
        As in `find_sessions`.
    design : Design, optional
        None if it is not there: a complete subject is then not told from an incomplete one.

    Returns
    -------
    n_sessions : int
    missing : list of Path
        Files of both hemispheres that must be there for it and are not, by session.

    Raises
    ------
    InvalidParameterError, FileFormatError
        As `find_sessions`.
    """
    if n_sessions is not None and n_sessions < 1:
        raise InvalidParameterError(
            "that is no number of sessions", got=f"n_sessions={n_sessions}", accepted="1 or more"
        )
    folder = files.betas(subject, "lh", 1).parent
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    present = {(match[1], int(match[2])) for match in map(_SESSION_NAME.fullmatch, names) if match}
    last = max((session for _, session in present), default=0)
    if design is not None and max(last, n_sessions or 0) > design.n_sessions:
        if n_sessions is not None and n_sessions > design.n_sessions:
            design.trial_images(subject, n_sessions)  # raises, with what is accepted
        raise FileFormatError(
            f"subject {subject} has more trials than the design orders",
            got=f"session {last} in {folder}",
            accepted=f"sessions 1 to {design.n_sessions}, of {design.trials_per_session} trials",
            do="check that design and betas are of the same copy of NSD",
        )
    wanted = n_sessions or _completed(design, subject) or max(last, 1)
    missing = [
        files.betas(subject, hemi, session)
        for session in range(1, max(wanted, last) + 1)
        for hemi in ("lh", "rh")
        if (hemi, session) not in present
    ]
    return n_sessions or max(wanted, last), missing


def find_sessions(
    files: NSDFiles, subject: int, design: Design, n_sessions: int | None = None
) -> int:
    """Return how many of a subject's sessions to use, counted from the first.

    Parameters
    ----------
    files : NSDFiles
    subject : int
        Counted from 1.
    design : Design
    n_sessions : int, optional
        Use the first so many. None uses all; with the design of NSD itself these must be all
        that the subject completed.

    Raises
    ------
    NSDFilesNotFoundError
        If a file of these sessions is missing, or there is a gap before the last one there is.
    FileFormatError
        If there are more sessions than the design orders.
    InvalidParameterError
        If `n_sessions` is less than 1, or more than the design orders.
    """
    found, missing = session_files(files, subject, design, n_sessions)
    if missing:
        raise files_not_found(files, missing, SESSIONS_DO)
    return found


def _completed(design: Design | None, subject: int) -> int | None:
    """Sessions that a subject of NSD itself completed; None for any other design."""
    if (
        design is not None
        and (design.n_sessions, design.trials_per_session)
        == (_NSD_SESSIONS, _NSD_TRIALS_PER_SESSION)
        and subject <= len(_COMPLETED)
    ):
        return _COMPLETED[subject - 1]
    return None
