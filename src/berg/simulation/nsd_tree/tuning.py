"""Drawing the ground truth of a subject of a simulated NSD tree."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from berg.catalog import DEFAULT_MODEL_ID, find_card
from berg.simulation.ground_truth import GroundTruth, draw_ground_truth, draw_region_readouts
from berg.simulation.nsd_tree.chance import Use, chance
from berg.simulation.nsd_tree.design import Indices, Part, TreeDesign, completed_sessions
from berg.simulation.nsd_tree.drives import SubjectDrives
from berg.simulation.nsd_tree.responses import draw_scale
from berg.simulation.nsd_tree.truth import Float32s, Truth
from berg.simulation.records import HEMIS
from berg.surface.fsaverage import Hemi
from berg.surface.roi_patches import Patches

_PARTS: tuple[Part, ...] = ("train", "val", "test")


def draw_truth(
    design: TreeDesign,
    drives: SubjectDrives,
    synthetic_trials: Indices,
    rois: Mapping[Hemi, Patches],
    subject: int,
    seed: int,
    level: int,
) -> Truth:
    """Draw what a subject's vertices respond to, and how reliably.

    Parameters
    ----------
    design : TreeDesign
    drives : SubjectDrives
        Of the subject.
    synthetic_trials : (n_trials,) int64
        Image of each trial of NSD-synthetic, 0-based.
    rois : mapping of {"lh", "rh"} to mapping of str to (n_roi_vertices,) int64
        The subject's regions on fsaverage, which differ in what they respond to.
    subject, seed, level : int

    Returns
    -------
    Truth
        Signals are linear in the drives, without products of them, so that a linear model can
        reach the noise ceiling but for what it has too few images to learn.
    """
    names = find_card(DEFAULT_MODEL_ID).rois
    readouts = draw_region_readouts(names, drives.amplitudes, chance(seed, Use.READOUTS, subject))
    n_trials = completed_sessions(subject, design.n_sessions) * design.trials_per_session
    shown = drives.core[design.order[:n_trials]]
    truths: dict[Hemi, GroundTruth] = {}
    synthetic: dict[Hemi, Float32s] = {}
    for side, hemi in enumerate(HEMIS):
        drawn = draw_ground_truth(
            rois[hemi],
            readouts,
            shown,
            drives.amplitudes,
            chance(seed, Use.TUNING, subject, side),
            level,
            product_share=0,
        )
        responsive = draw_scale(hemi, level, chance(seed, Use.SCALE, subject, side)).sd > 0
        truth = GroundTruth(drawn.readout, drawn.ncsnr * responsive)
        truths[hemi] = truth
        covariance = np.cov(drives.synthetic[synthetic_trials], rowvar=False).reshape(
            2 * drives.amplitudes.shape
        )
        variance = np.einsum("vi,vi->v", truth.readout @ covariance, truth.readout)
        synthetic[hemi] = (truth.ncsnr * np.sqrt(variance)).astype(np.float32)
    columns = {part: design.columns(subject, part) for part in _PARTS}
    return Truth(
        img_num={part: design.subject_images[subject - 1, c] for part, c in columns.items()},
        drives={part: drives.core[c] for part, c in columns.items()}
        | {"synthetic": drives.synthetic},
        synthetic_trials=synthetic_trials,
        readout={hemi: truths[hemi].readout for hemi in HEMIS},
        ncsnr={hemi: truths[hemi].ncsnr for hemi in HEMIS},
        ncsnr_synthetic=synthetic,
        rois=rois,
    )
