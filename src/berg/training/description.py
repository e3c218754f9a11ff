"""The metadata of a trained model, under the keys of the card, and where it comes from."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from berg import __version__, alexnet
from berg.metadata import Metadata
from berg.scoring import Scores
from berg.training.workspace import HEMIS, VERSIONS, Workspace

_GAMMA = "NSD-synthetic's stimuli entered the network gamma-corrected, as they were shown"


def describe_data(workspace: Workspace) -> Metadata:
    """Collect what the metadata say of the measured data: regions, ceilings, missing trials.

    Parameters
    ----------
    workspace : Workspace
        With its stages `synthetic` finished.

    Returns
    -------
    dict
        ``"fmri"``, ``"encoding_models"`` and ``"provenance"``, without images and accuracy.
    """
    data, subject = workspace.data, workspace.subject
    fmri: dict[str, Any] = {}
    for hemi in HEMIS:
        synthetic, measured = workspace.synthetic(hemi), workspace.measured(hemi)
        fmri[f"{hemi}_ncsnr"] = data.ncsnr[hemi]
        fmri[f"{hemi}_ncsnr_nsdsynthetic"] = np.load(synthetic / "ncsnr.npy")
        # Beyond the card: how many trials each vertex lacks.
        fmri[f"{hemi}_n_missing_nsdcore"] = np.load(measured / "n_missing.npy")
        fmri[f"{hemi}_n_missing_nsdsynthetic"] = np.load(synthetic / "n_missing.npy")
        fmri[f"{hemi}_fsaverage_rois"] = dict(data.rois[hemi])
    provenance = {
        "simulated": workspace.nsd.simulated,
        "dataset": "a simulated tree in the layout of the Natural Scenes Dataset: these responses "
        "were never measured in a brain"
        if workspace.nsd.simulated
        else "Natural Scenes Dataset, betas_fithrf_GLMdenoise_RR on fsaverage",
        "subject": subject,
        "gamma": _GAMMA,
        "missing_trials": "NaN, or constant over a session; left out of averages",
        "measured": {hemi: workspace.measured(hemi).fingerprint for hemi in HEMIS},
    }
    return {"fmri": fmri, "encoding_models": {}, "provenance": provenance}


def describe_training(
    workspace: Workspace, weights_sha256: str, penalties: dict[str, NDArray[np.float32]]
) -> Metadata:
    """Collect the metadata of a model that was just fitted.

    Parameters
    ----------
    workspace : Workspace
    weights_sha256 : str
        Of ``weights_subject-XX.npy``.
    penalties : dict of {"lh", "rh"} to (n_vertices,) float32
        Ridge penalty of each vertex; empty for plain linear regression.

    Returns
    -------
    dict
        As `berg.metadata.save_metadata` takes it, without accuracy.
    """
    metadata, partition = describe_data(workspace), workspace.data.partition
    metadata["encoding_models"] |= {
        "train_img_num": partition.train,
        "val_img_num": partition.val,
        "test_img_num": partition.test,
    }
    for hemi, penalty in penalties.items():
        metadata["encoding_models"][f"{hemi}_ridge_penalty"] = penalty
    metadata["provenance"] |= {
        "trained_by": f"berg {__version__}",
        "n_sessions": workspace.data.n_sessions,
        "regression": "ridge, one penalty a vertex, chosen on the validation images"
        if workspace.ridge
        else "linear regression",
        "n_components": workspace.card.n_components,
        "weights_sha256": weights_sha256,
        "network_sha256": alexnet.FINGERPRINT,
        "training_sha256": workspace.model.fingerprint,
        "device": workspace.device_type,
        "versions": VERSIONS,
    }
    return metadata


def describe_test(work: Workspace, metadata: Metadata, weights_sha256: str) -> None:
    """Write into the metadata on what the accuracy in them was measured.

    Parameters
    ----------
    work : Workspace
    metadata : dict
        Changed in place: ``test_img_num`` and the provenance.
    weights_sha256 : str
        Of the weights that were tested.
    """
    data = work.data
    metadata["encoding_models"]["test_img_num"] = data.partition.test
    metadata["provenance"] = provenance_of(metadata) | {
        "tested": {
            "by": f"berg {__version__}",
            "weights_sha256": weights_sha256,
            "simulated": work.nsd.simulated,
            "n_sessions": data.n_sessions,
            "n_test_images": len(data.partition.test),
            "gamma": _GAMMA,
            "measured": {hemi: work.measured(hemi).fingerprint for hemi in HEMIS},
        }
    }


def provenance_of(metadata: Metadata) -> dict[str, Any]:
    """Return what metadata say of their origin; empty if they say nothing.

    Parameters
    ----------
    metadata : dict

    Returns
    -------
    dict
    """
    provenance: Any = metadata.get("provenance")  # which a file may have as anything
    return dict(provenance) if isinstance(provenance, dict) else {}


def add_accuracy(metadata: Metadata, hemi: str, dataset: str, scores: Scores) -> None:
    """Put one hemisphere's accuracy on one set of images under the keys of the card.

    Parameters
    ----------
    metadata : dict
        Changed in place.
    hemi : {"lh", "rh"}
    dataset : {"nsdcore", "nsdsynthetic"}
    scores : berg.scoring.Scores
    """
    for key, values in (
        ("correlation", scores.correlation),
        ("r2", scores.r2),
        ("noise_ceiling", scores.noise_ceiling),
        ("explained_variance", scores.explained_variance_percent),
    ):
        metadata["encoding_models"][f"{hemi}_{key}_{dataset}"] = values.astype(np.float32)
