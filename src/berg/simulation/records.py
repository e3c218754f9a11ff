"""What is written down of a simulated subject: the card's metadata, and how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from berg import __version__
from berg.metadata import Metadata
from berg.simulation.ground_truth import N_READOUT_SCORES, PRODUCT_SHARE, GroundTruth
from berg.simulation.responses import SimulatedHemisphere
from berg.surface.fsaverage import Hemi
from berg.surface.roi_patches import Patches

HEMIS: tuple[Hemi, Hemi] = ("lh", "rh")

# Raise it when the same seed would simulate another subject: caches are named after it.
SIMULATION_VERSION = 2

# Test images are numbered from 0, training images of subject s from s times this.
IMAGES_PER_SUBJECT = 1_000_000

_NOTES = {
    "stimuli": "crops of two photographs and made images; crops overlap, so that images are not "
    "independent; training and test crops share no pixel; every image drawn was kept",
    "image_numbers": "the simulation's own, not NSD's: within one seed a number is one image; "
    "test images, which subjects share, count from 0 and training images of subject s from "
    f"{IMAGES_PER_SUBJECT} * s",
    "gamma": "none: the images are made in the network's own pixel values",
    "ground_truth": f"smooth random readouts of the first {N_READOUT_SCORES} AlexNet scores "
    f"(at most), compressed, and of products of them; {PRODUCT_SHARE:.0%} of their summed "
    "variance over the test images is of the products, which a linear model hardly learns",
    "noise": "lh_ncsnr and rh_ncsnr are the truth itself, not estimates: the signal has its "
    "stated variance over the test images, which the noise ceilings of nsdcore are of; those of "
    "nsdsynthetic are estimated from single trials",
    "synthetic": "a few images drive units that were silent in training: predictions for these "
    "lie far from the others and lower the accuracy on this set",
}


def describe(
    rois: Mapping[Hemi, Patches],
    truths: Mapping[Hemi, GroundTruth],
    results: Mapping[Hemi, SimulatedHemisphere],
    subject: int,
    n_images: tuple[int, int],
    made_with: Mapping[str, object],
) -> Metadata:
    """Arrange maps and regions under the keys of the card, and say how they were made.

    Parameters
    ----------
    rois, truths, results : mapping of {"lh", "rh"}
        Of each hemisphere.
    subject : int
    n_images : tuple of int
        Training and test images.
    made_with : mapping of str
        What else the provenance should hold.

    Returns
    -------
    dict
        As `berg.metadata.save_metadata` takes it.
    """
    fmri: dict[str, Any] = {}
    models: dict[str, Any] = {
        "train_img_num": subject * IMAGES_PER_SUBJECT + np.arange(n_images[0]),
        "val_img_num": np.arange(0),
        "test_img_num": np.arange(n_images[1]),
    }
    for hemi in HEMIS:
        result = results[hemi]
        fmri[f"{hemi}_ncsnr"] = truths[hemi].ncsnr
        fmri[f"{hemi}_ncsnr_nsdsynthetic"] = result.synthetic_ncsnr.astype(np.float32)
        fmri[f"{hemi}_fsaverage_rois"] = dict(rois[hemi])
        for dataset, scores in (("nsdcore", result.core), ("nsdsynthetic", result.synthetic)):
            for key, values in (
                ("correlation", scores.correlation),
                ("r2", scores.r2),
                ("noise_ceiling", scores.noise_ceiling),
                ("explained_variance", scores.explained_variance_percent),
            ):
                models[f"{hemi}_{key}_{dataset}"] = values.astype(np.float32)
    provenance = {
        "simulated": True,
        "note": "Simulated subject: the responses were never measured in a brain.",
        "simulation_version": SIMULATION_VERSION,
        "subject": subject,
        "n_train": n_images[0],
        "n_test": n_images[1],
        **made_with,
        **_NOTES,
        "median_noise_ceiling_nsdgeneral": _median_ceiling(rois, results),
        "versions": {"berg": __version__} | _versions("numpy", "torch", "scikit-learn", "nilearn"),
    }
    return {"fmri": fmri, "encoding_models": models, "provenance": provenance}


def _median_ceiling(
    rois: Mapping[Hemi, Patches], results: Mapping[Hemi, SimulatedHemisphere]
) -> float:
    inside = [results[hemi].core.noise_ceiling[rois[hemi]["nsdgeneral"]] for hemi in HEMIS]
    return round(float(np.median(np.concatenate(inside))), 3)


def _versions(*packages: str) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
