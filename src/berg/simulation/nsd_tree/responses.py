"""Single-trial responses of a simulated NSD tree, with what real ones suffer from, as MGH files."""

from __future__ import annotations

import os
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from berg.atomic import write_atomically
from berg.layout import NSDFiles
from berg.simulation.ground_truth import GroundTruth
from berg.simulation.nsd_tree.chance import Use, chance
from berg.simulation.nsd_tree.design import TreeDesign, completed_sessions
from berg.simulation.nsd_tree.truth import Float32s, Truth
from berg.simulation.records import HEMIS
from berg.surface.fsaverage import Hemi, level_of, sphere

# FreeSurfer's MGH: version 1, three dimensions, frames, type 3 (float32), degrees of freedom, and
# a flag that no orientation follows; big-endian, padded to 284 bytes.
# https://surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat
_HEADER = struct.Struct(">7ih254x")
_VERSION, _FLOAT32 = 1, 3
_N_WORKERS = min(2, os.cpu_count() or 1)  # files in work; each takes 150 MB
_BLOCK_BYTES = 32 * 2**20  # trials that are in memory together: with a copy, for each worker

# Percent signal change: means and standard deviations of a vertex over trials (orders of
# magnitude of NSD's betas), and how much they move from session to session.
_MEAN, _MEAN_SD, _MEAN_DRIFT = 0.3, 0.8, 0.2
_SD, _LOG_SD_SD, _LOG_SD_DRIFT = 1.5, 0.3, 0.1

# Shares of the vertices: outside the brain in every session; outside the volume, as a patch at
# the edge, in sessions 2, 5, 8, ...; and stuck at one value in sessions 1, 4, 7, ...
_OUTSIDE_SHARE, _MISSING_SHARE, _STUCK_SHARE = 0.002, 0.01, 0.002


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each vertex over trials, in percent signal change.

    Attributes
    ----------
    mean : (n_vertices,) float32
        NaN where a session has no data.
    sd : (n_vertices,) float32
        0 where all trials are equal.
    """

    mean: Float32s
    sd: Float32s


def draw_scale(hemi: Hemi, level: int, rng: np.random.Generator) -> Scale:
    """Draw what a hemisphere's vertices have in common over sessions; a few are always zero."""
    points = sphere(hemi, level).vertices
    mean = (_MEAN + _MEAN_SD * rng.standard_normal(len(points))).astype(np.float32)
    sd = (_SD * np.exp(_LOG_SD_SD * rng.standard_normal(len(points)))).astype(np.float32)
    outside = _draw_patch(points, _OUTSIDE_SHARE, rng)
    mean[outside] = sd[outside] = 0
    return Scale(mean, sd)


def draw_session_scale(scale: Scale, hemi: Hemi, session: int, rng: np.random.Generator) -> Scale:
    """Draw the scale of one session: it drifts, and some vertices are missing or stuck.

    Parameters
    ----------
    scale : Scale
        From `draw_scale`.
    hemi : {"lh", "rh"}
    session : int
        Counted from 1; 0 is NSD-synthetic, which has no missing or stuck vertices.
    rng : numpy.random.Generator

    Returns
    -------
    Scale
    """
    count, live = len(scale.mean), scale.sd > 0
    drift = rng.standard_normal((2, count), dtype=np.float32) * live
    mean = scale.mean + np.float32(_MEAN_DRIFT) * drift[0]
    sd = scale.sd * np.exp(np.float32(_LOG_SD_DRIFT) * drift[1])
    if session % 3 == 1:
        sd[rng.permutation(count)[: max(1, round(_STUCK_SHARE * count))]] = 0
    if session % 3 == 2:
        mean[_draw_patch(sphere(hemi, level_of(count)).vertices, _MISSING_SHARE, rng)] = np.nan
    return Scale(mean, sd)


def write_betas(
    path: Path, drives: Float32s, truth: GroundTruth, scale: Scale, rng: np.random.Generator
) -> None:
    """Write the responses to a session's trials.

    Parameters
    ----------
    path : Path
        Big-endian float32, vertex fastest.
    drives : (n_trials, n_drives) float32
        What vertices read out of the image of each trial.
    truth : GroundTruth
        With signal and noise of variance 1 together, before `scale`.
    scale : Scale
        Of the session.
    rng : numpy.random.Generator
        Of the noise.
    """
    n_trials, n_vertices = len(drives), len(scale.mean)
    # The mean is the weight of one more drive, which is always 1.
    weights = np.vstack([truth.readout.T * (truth.signal_sd * scale.sd), scale.mean])
    inputs = np.hstack([drives, np.ones((n_trials, 1), np.float32)])
    noise_sd = truth.noise_sd * scale.sd
    normal = _normal_quantiles()
    step = max(1, _BLOCK_BYTES // (4 * n_vertices))
    with write_atomically(path) as file:
        file.write(_HEADER.pack(_VERSION, n_vertices, 1, 1, n_trials, _FLOAT32, 0, 0))
        for start in range(0, n_trials, step):
            signal = inputs[start : start + step] @ weights
            drawn = rng.integers(len(normal), size=signal.shape, dtype=np.uint16)
            trials = normal[drawn]
            trials *= noise_sd
            trials += signal
            file.write(trials.astype(">f4"))


def write_all_betas(
    files: NSDFiles,
    design: TreeDesign,
    subject: int,
    truth: Truth,
    level: int,
    seed: int,
    bar: tqdm[Any],
) -> None:
    """Write all sessions of a subject and its NSD-synthetic, but for files that are there.

    Parameters
    ----------
    files : NSDFiles
    design : TreeDesign
    subject : int
    truth : Truth
        Of the subject.
    level, seed : int
    bar : tqdm
        Advanced by the files done: two for each session, and two more.
    """
    img_num = np.concatenate([*truth.img_num.values()])
    core = np.concatenate([truth.drives[part] for part in truth.img_num])
    by_id = np.argsort(img_num)
    jobs = [
        (side, session)
        for session in range(completed_sessions(subject, design.n_sessions) + 1)
        for side in range(len(HEMIS))
    ]

    def write(job: tuple[int, int]) -> None:
        side, session = job
        hemi = HEMIS[side]
        if session:
            path = files.betas(subject, hemi, session)
            ids = design.subject_images[subject - 1, design.session_columns(session)]
            drives = core[by_id[np.searchsorted(img_num, ids, sorter=by_id)]]
        else:
            path = files.synthetic_betas(subject, hemi)
            drives = truth.drives["synthetic"][truth.synthetic_trials]
        if not path.exists():
            rng = chance(seed, Use.SESSION, subject, side, session)
            scale = draw_scale(hemi, level, chance(seed, Use.SCALE, subject, side))
            scale = draw_session_scale(scale, hemi, session, rng)
            tuning = GroundTruth(truth.readout[hemi], truth.ncsnr[hemi])
            write_betas(path, drives, tuning, scale, rng)

    with ThreadPoolExecutor(_N_WORKERS) as pool:
        for _ in pool.map(write, jobs):
            bar.update()


@cache
def _normal_quantiles() -> Float32s:
    """Return 65,536 equally likely values of a normal distribution with variance 1.

    To pick one with 16 random bits takes 3 ns, where `standard_normal` takes 10 (measured).
    The largest are 4.3.
    """
    from scipy.special import ndtri

    values = ndtri((np.arange(2**16) + 0.5) / 2**16)
    quantiles: Float32s = (values / values.std()).astype(np.float32)
    return quantiles


def _draw_patch(points: Float32s, share: float, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw a round patch on the sphere with a share of its vertices, one at least."""
    closeness = points @ rng.standard_normal(3).astype(np.float32)
    count = max(1, round(share * len(points)))
    return np.argpartition(-closeness, count)[:count]
