"""Look at a copy of NSD before any work: that all is there, and fits together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from berg.errors import FileFormatError, InvalidParameterError, NSDFilesNotFoundError
from berg.layout import NSDFiles
from berg.nsd.betas import BetaFile, open_betas
from berg.nsd.design import (
    Design,
    Partition,
    partition_images,
    read_design,
    read_synthetic_design,
)
from berg.nsd.images import CoreImages, SyntheticImages
from berg.nsd.maps import Float32s, read_ncsnr
from berg.nsd.missing import ACCESS, files_not_found
from berg.nsd.rois import Rois, read_rois, roi_files
from berg.nsd.sessions import session_files
from berg.nsd.simulated import read_marker

Indices = npt.NDArray[np.int64]
_HEMIS = ("lh", "rh")


@dataclass(frozen=True, eq=False)
class SubjectData:
    """What there is of one subject.

    Attributes
    ----------
    subject : int
        Counted from 1.
    n_sessions : int
        Sessions to use, the first ones.
    n_vertices : int
        Of one hemisphere.
    partition : Partition
    n_synthetic, n_colour : int
        Images of NSD-synthetic, and those among them, the last ones, that were made for this
        subject.
    betas : dict of str to tuple of BetaFile
        For ``"lh"`` and ``"rh"``, a file a session of NSD-core.
    synthetic_betas : dict of str to BetaFile
        Of NSD-synthetic.
    ncsnr : dict of str to (n_vertices,) float32
        For ``"lh"`` and ``"rh"``, of NSD-core.
    rois : dict of str to dict of str to (n,) int64
        For ``"lh"`` and ``"rh"``, each region of the model card.
    roi_files : tuple of Path
        What the regions were read from.
    """

    subject: int
    n_sessions: int
    n_vertices: int
    partition: Partition
    n_synthetic: int
    n_colour: int
    betas: Mapping[str, tuple[BetaFile, ...]]
    synthetic_betas: Mapping[str, BetaFile]
    ncsnr: Mapping[str, Float32s]
    rois: Mapping[str, Rois]
    roi_files: tuple[Path, ...]


@dataclass(frozen=True, eq=False)
class NSDData:
    """What there is of the dataset, of the subjects asked for.

    Attributes
    ----------
    files : NSDFiles
    design : Design
    synthetic_images : (n_trials,) int64
        0-based image of each trial of NSD-synthetic.
    subjects : dict of int to SubjectData
    simulated : bool
        Whether the dataset says that it is a simulated one.
    """

    files: NSDFiles
    design: Design
    synthetic_images: Indices
    subjects: Mapping[int, SubjectData]
    simulated: bool = False


def survey(
    nsd_dir: str | os.PathLike[str], subjects: Iterable[int], n_sessions: int | None = None
) -> NSDData:
    """Find all that model building needs, and check that it fits together.

    Of betas and images only the headers are read: a second or two a subject.

    Parameters
    ----------
    nsd_dir : path-like
        A copy of the Natural Scenes Dataset.
    subjects : iterable of int
        Counted from 1.
    n_sessions : int, optional
        Use only the first sessions of each subject.

    Raises
    ------
    NSDFilesNotFoundError
        If files are missing; the message names all of them, of all subjects.
    FileFormatError
        If a file is not what its name promises, or does not fit the others.
    InvalidParameterError
        If there is no such subject, or number of sessions.
    """
    files = NSDFiles(Path(nsd_dir).expanduser())
    if not (files.nsd_dir / "nsddata").is_dir():
        raise NSDFilesNotFoundError(
            f"{files.nsd_dir} is not a copy of the Natural Scenes Dataset",
            got="no folder nsddata in it" if files.nsd_dir.is_dir() else "no such directory",
            accepted="a directory with nsddata, nsddata_betas and nsddata_stimuli",
            do=_where_to_point(files.nsd_dir),
        )
    wanted = list(dict.fromkeys(subjects))
    if not wanted:
        raise InvalidParameterError("no subject to look for", got="none", accepted="1 or more")
    try:
        design = read_design(files)
    except (FileFormatError, NSDFilesNotFoundError):
        design = None  # raised again below, unless files are missing: then all are named at once
    if design is not None:
        for subject in wanted:
            design.trial_images(subject, n_sessions or 1)  # raises if there is none
    used = _check_all_there(files, design, wanted, n_sessions)
    design = design or read_design(files)  # raises if it is damaged
    synthetic = read_synthetic_design(files)
    with CoreImages(files) as images:
        n_images = images.n_images
    return NSDData(
        files,
        design,
        synthetic,
        {
            subject: _survey_subject(files, design, synthetic, n_images, subject, used[subject])
            for subject in wanted
        },
        simulated=read_marker(files.nsd_dir) is not None,
    )


def _where_to_point(nsd_dir: Path) -> str:
    """Say where the dataset is, if the folder given is inside it."""
    for folder in nsd_dir.absolute().parents:
        if (folder / "nsddata").is_dir():
            return f"point --nsd-dir at the folder that holds nsddata: {folder}"
    return f"point --nsd-dir at the folder that holds nsddata, or {ACCESS}"


def _check_all_there(
    files: NSDFiles, design: Design | None, subjects: Iterable[int], n_sessions: int | None
) -> dict[int, int]:
    """Raise with all that is missing, or return the sessions to use of each subject."""
    of_all = (files.design, files.synthetic_design, files.stimuli, files.synthetic_stimuli)
    missing = [path for path in of_all if not path.is_file()]
    used = {}
    do = ACCESS
    for subject in subjects:
        sessions = session_files(files, subject, design, n_sessions)
        used[subject] = sessions.n_sessions
        if sessions.missing:
            do += sessions.do.removeprefix(ACCESS)
        missing += sessions.missing
        missing += [path for path in _subject_files(files, subject) if not path.is_file()]
    if missing:
        raise files_not_found(files, missing, do)
    return used


def _subject_files(files: NSDFiles, subject: int) -> list[Path]:
    """Return the files of a subject, but for the sessions of NSD-core."""
    maps = (path(subject, hemi) for hemi in _HEMIS for path in (files.ncsnr, files.synthetic_betas))
    return [*maps, files.synthetic_colour_stimuli(subject), *roi_files(files, subject)]


def _survey_subject(
    files: NSDFiles,
    design: Design,
    synthetic: Indices,
    n_images: int,
    subject: int,
    n_sessions: int,
) -> SubjectData:
    shown = design.trial_images(subject, n_sessions)
    if shown.max() >= n_images:
        raise _unfit(
            f"{files.design.name} shows images that are not in {files.stimuli.name}",
            f"image {shown.max() + 1:,} of subject {subject}",
            f"1 to {n_images:,}",
        )
    with SyntheticImages(files, subject) as images:
        n_synthetic, n_shared = images.n_images, images.n_shared
    if n_synthetic != synthetic.max() + 1:
        raise _unfit(
            f"{files.synthetic_design.name} and the images of NSD-synthetic do not fit",
            f"{synthetic.max() + 1} images in the design, {n_synthetic} in "
            f"{files.synthetic_stimuli.name} and {files.synthetic_colour_stimuli(subject).name}",
            "as many images as the design shows",
        )
    n_vertices = open_betas(files.betas(subject, "lh", 1)).n_vertices
    betas = {
        hemi: tuple(
            open_betas(
                files.betas(subject, hemi, session),
                n_trials=design.trials_per_session,
                n_vertices=n_vertices,
            )
            for session in range(1, n_sessions + 1)
        )
        for hemi in _HEMIS
    }
    synthetic_betas = {
        hemi: open_betas(
            files.synthetic_betas(subject, hemi), n_trials=len(synthetic), n_vertices=n_vertices
        )
        for hemi in _HEMIS
    }
    ncsnr = read_ncsnr(files, subject)
    for hemi, values in ncsnr.items():
        if len(values) != n_vertices:
            raise _unfit(
                f"{files.ncsnr(subject, hemi)} is not on the surface of the betas",
                f"{len(values):,} vertices",
                f"{n_vertices:,}",
            )
    return SubjectData(
        subject=subject,
        n_sessions=n_sessions,
        n_vertices=n_vertices,
        partition=partition_images(design, subject, n_sessions),
        n_synthetic=n_synthetic,
        n_colour=n_synthetic - n_shared,
        betas=betas,
        synthetic_betas=synthetic_betas,
        ncsnr=ncsnr,
        rois=read_rois(files, subject, n_vertices),
        roi_files=roi_files(files, subject),
    )


def _unfit(problem: str, got: str, accepted: str) -> FileFormatError:
    return FileFormatError(problem, got=got, accepted=accepted, do=ACCESS)
