"""Which sessions of a subject there are, and which of their files are missing."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from berg.errors import FileFormatError, InvalidParameterError
from berg.layout import NSDFiles
from berg.nsd.design import Design
from berg.nsd.missing import ACCESS, files_not_found
from berg.nsd.simulated import read_marker

# Sessions completed by subjects 1 to 8 of the 40 of 750 trials that NSD's design orders
# (Allen et al., 2022, https://doi.org/10.1038/s41593-021-00962-x).
_COMPLETED = (40, 40, 32, 30, 40, 32, 40, 30)
_NSD_SESSIONS, _NSD_TRIALS_PER_SESSION = 40, 750
_SESSION_NAME = re.compile(r"(lh|rh)\.betas_session(\d{2,})\.mgh")


@dataclass(frozen=True)
class SessionFiles:
    """What there is of a subject's sessions.

    Attributes
    ----------
    n_sessions : int
        Sessions to use, the first ones.
    missing : tuple of Path
        Files of both hemispheres that must be there for it and are not, by session.
    do : str
        The next step if any is missing.
    """

    n_sessions: int
    missing: tuple[Path, ...]
    do: str


def session_files(
    files: NSDFiles, subject: int, design: Design | None, n_sessions: int | None = None
) -> SessionFiles:
    """Decide which sessions to use, and find what is missing for that.

    Parameters
    ----------
    files, subject, n_sessions
        As in `find_sessions`.
    design : Design, optional
        None if it is not there: a complete subject is then not told from an incomplete one.

    Returns
    -------
    SessionFiles

    Raises
    ------
    InvalidParameterError, FileFormatError
        As `find_sessions`.
    """
    if n_sessions is not None and n_sessions < 1:
        raise InvalidParameterError(
            "that is no number of sessions",
            got=f"n_sessions={n_sessions}",
            accepted="1 or more",
            do="give `--sessions` another number, or leave it out to use all there are",
        )
    folder = files.betas(subject, "lh", 1).parent
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    matches = [match for match in map(_SESSION_NAME.fullmatch, names) if match]
    named = {(match[1], int(match[2])) for match in matches}
    # A link that leads nowhere, a folder, or session 2 as "002" is no file of a session.
    present = {(hemi, n) for hemi, n in named if files.betas(subject, hemi, n).is_file()}
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
    last_named = max((session for _, session in named), default=1)
    wanted = n_sessions or _completed(files, design, subject) or max(last_named, 1)
    missing = tuple(
        files.betas(subject, hemi, session)
        for session in range(1, max(wanted, last) + 1)
        for hemi in ("lh", "rh")
        if (hemi, session) not in present
    )
    n_complete = next(n for n in count() if not {("lh", n + 1), ("rh", n + 1)} <= present)
    return SessionFiles(
        n_sessions or max(wanted, last), missing, _next_step(subject, n_complete, last)
    )


def _next_step(subject: int, n_complete: int, last: int) -> str:
    """Say what to do about missing files, once the first sessions that are there are known."""
    if n_complete == 0:
        return ACCESS
    first = "session 1 is" if n_complete == 1 else f"sessions 1 to {n_complete} are"
    use = f"`--sessions {n_complete}` uses only these"
    if last > n_complete:
        use += f", if nothing later is there: here session {last} is"
    return f"{ACCESS}; of subject {subject} {first} complete, and {use}"


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
        Use the first so many. None uses all; with the design of NSD itself, and in a simulated
        dataset, these must be all that the subject completed.

    Raises
    ------
    NSDFilesNotFoundError
        If a file of these sessions is missing, or there is a gap before the last one there is.
    FileFormatError
        If there are more sessions than the design orders.
    InvalidParameterError
        If `n_sessions` is less than 1, or more than the design orders.
    """
    found = session_files(files, subject, design, n_sessions)
    if found.missing:
        raise files_not_found(files, found.missing, found.do)
    return found.n_sessions


def _completed(files: NSDFiles, design: Design | None, subject: int) -> int | None:
    """Sessions that a subject of NSD itself, or a simulated one, completed; None if not known."""
    simulated = (read_marker(files.nsd_dir) or {}).get("sessions")
    completed = simulated.get(str(subject)) if isinstance(simulated, dict) else None
    if isinstance(completed, int):
        return completed
    if (
        design is not None
        and (design.n_sessions, design.trials_per_session)
        == (_NSD_SESSIONS, _NSD_TRIALS_PER_SESSION)
        and subject <= len(_COMPLETED)
    ):
        return _COMPLETED[subject - 1]
    return None
