"""Stages of measured responses: each beta file is read once, for all that needs it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from berg.training.synthetic import synthetic_trials
from berg.training.trial_files import Buffers, trial_buffers
from berg.training.trials import Group, ReducedTrials, reduce_trials
from berg.training.workspace import HEMIS, Workspace


def all_buffers(workspace: Workspace) -> Buffers:
    """Make buffers for any of a subject's beta files.

    Parameters
    ----------
    workspace : Workspace

    Returns
    -------
    pair of (n_numbers,) float32
    """
    data = workspace.data
    betas = [data.betas[hemi][0] for hemi in HEMIS]
    return trial_buffers([*betas, *(data.synthetic_betas[hemi] for hemi in HEMIS)])


def measure(
    workspace: Workspace,
    hemi: str,
    groups: Sequence[Group] = (),
    *,
    buffers: Buffers | None = None,
    show_progress: bool = True,
) -> ReducedTrials:
    """Go through a hemisphere's sessions, and keep the responses to the test images.

    The stage `Workspace.measured` is finished afterwards: ``responses.npy``, float32
    (n_test, n_vertices), and ``n_missing.npy``, int32 (n_vertices,), the trials that are missing
    of all sessions.

    Parameters
    ----------
    workspace : Workspace
    hemi : {"lh", "rh"}
    groups : sequence of Group
        What else to sum up on the way.
    buffers : pair of (n_numbers,) float32, optional
        From `all_buffers`, for those who measure one thing after the other.
    show_progress : bool
        Whether to show a progress bar.

    Returns
    -------
    ReducedTrials

    Raises
    ------
    FileFormatError
        If a file cannot be read.
    ResourceError
        If the disk is full.
    """
    data, stage = workspace.data, workspace.measured(hemi)
    with tqdm(
        total=data.n_sessions,
        desc=f"Betas, {hemi}",
        unit="session",
        disable=not show_progress,
    ) as bar:
        reduced = reduce_trials(
            data.betas[hemi],
            workspace.nsd.design.trial_images(workspace.subject, data.n_sessions),
            groups,
            data.partition.test,
            buffers=buffers,
            bar=bar,
        )
    if not stage.is_finished:
        with stage.make() as folder:
            np.save(folder / "responses.npy", reduced.means)
            np.save(folder / "n_missing.npy", reduced.n_missing)
    return reduced


def measure_synthetic(workspace: Workspace, hemi: str, *, buffers: Buffers | None = None) -> None:
    """Average the responses to NSD-synthetic, and estimate its noise ceiling.

    The stage `Workspace.synthetic` is finished afterwards: ``responses.npy``, float32
    (n_synthetic, n_vertices), ``ncsnr.npy``, float32, and ``n_missing.npy``, int32 (n_vertices,).

    Parameters
    ----------
    workspace : Workspace
    hemi : {"lh", "rh"}
    buffers : pair of (n_numbers,) float32, optional
        As for `measure`.

    Raises
    ------
    FileFormatError
        If the file cannot be read.
    ResourceError
        If the disk is full.
    """
    stage = workspace.synthetic(hemi)
    if stage.is_finished:
        return
    with stage.make() as folder:
        found = synthetic_trials(
            workspace.data.synthetic_betas[hemi],
            workspace.nsd.synthetic_images,
            buffers=buffers,
        )
        np.save(folder / "responses.npy", found.means)
        np.save(folder / "ncsnr.npy", found.ncsnr)
        np.save(folder / "n_missing.npy", found.n_missing)
