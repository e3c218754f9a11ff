"""The ground truth of a simulated NSD tree: what was put into the responses, kept beside them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from berg.atomic import write_atomically
from berg.errors import FileFormatError, NSDFilesNotFoundError
from berg.scoring import noise_ceiling
from berg.simulation.nsd_tree.design import Indices
from berg.simulation.records import HEMIS
from berg.surface.fsaverage import Hemi
from berg.surface.roi_patches import Patches

Float32s = npt.NDArray[np.float32]
Dataset = Literal["train", "val", "test", "synthetic"]

_TEST_REPEATS = 3


@dataclass(frozen=True)
class Truth:
    """What a simulated subject's vertices respond to, and how reliably.

    Attributes
    ----------
    img_num : mapping of {"train", "val", "test"} to (n_images,) int64
        0-based 73k ids, sorted, of the images that the subject saw in all its sessions.
    drives : mapping of {"train", "val", "test", "synthetic"} to (n_images, n_drives) float32
        What vertices read out of each image, in the order of `img_num`, or of the 284 images.
    synthetic_trials : (n_trials,) int64
        Image of each trial of NSD-synthetic, 0-based.
    readout : mapping of {"lh", "rh"} to (n_vertices, n_drives) float32
        ``drives @ readout.T`` is the signal; over the trials of NSD-core it has variance 1.
    ncsnr : mapping of {"lh", "rh"} to (n_vertices,) float32
        Standard deviation of the signal over that of a single trial's noise, in NSD-core's trials;
        0 where a vertex is constant.
    ncsnr_synthetic : mapping of {"lh", "rh"} to (n_vertices,) float32
        The same in NSD-synthetic's trials: the noise is as strong, the signal is not.
    rois : mapping of {"lh", "rh"} to mapping of str to (n_roi_vertices,) int64
        Sorted fsaverage vertices of each region, as they read back through the transform.
    """

    img_num: Mapping[str, Indices]
    drives: Mapping[str, Float32s]
    synthetic_trials: Indices
    readout: Mapping[Hemi, Float32s]
    ncsnr: Mapping[Hemi, Float32s]
    ncsnr_synthetic: Mapping[Hemi, Float32s]
    rois: Mapping[Hemi, Patches]

    def signal(self, hemi: Hemi, dataset: Dataset) -> Float32s:
        """Return the true mean responses (n_images, n_vertices), up to a scale per vertex.

        In z units of NSD-core's single trials they are to be multiplied by
        ``ncsnr / sqrt(1 + ncsnr**2)``.
        """
        signal: Float32s = self.drives[dataset] @ self.readout[hemi].T
        return signal

    def noise_ceiling(self, hemi: Hemi, dataset: Literal["test", "synthetic"]) -> Float32s:
        """Return the true noise ceiling (n_vertices,) of responses averaged over all repeats."""
        if dataset == "test":
            return noise_ceiling(self.ncsnr[hemi], _TEST_REPEATS).astype(np.float32)
        repeats = np.bincount(self.synthetic_trials)
        return noise_ceiling(self.ncsnr_synthetic[hemi], repeats).astype(np.float32)


def truth_path(nsd_dir: Path, subject: int) -> Path:
    """Where a subject's ground truth lies."""
    return nsd_dir / "simulation" / f"subj{subject:02d}_truth.npz"


def save_truth(nsd_dir: Path, subject: int, truth: Truth) -> None:
    """Write a subject's ground truth, without pickles."""
    arrays: dict[str, Any] = {"synthetic_trials": truth.synthetic_trials}
    arrays |= {f"img_num/{part}": ids for part, ids in truth.img_num.items()}
    arrays |= {f"drives/{dataset}": drives for dataset, drives in truth.drives.items()}
    for hemi in HEMIS:
        arrays |= {
            f"{hemi}/readout": truth.readout[hemi],
            f"{hemi}/ncsnr": truth.ncsnr[hemi],
            f"{hemi}/ncsnr_synthetic": truth.ncsnr_synthetic[hemi],
        }
        arrays |= {f"{hemi}/rois/{name}": roi for name, roi in truth.rois[hemi].items()}
    with write_atomically(truth_path(nsd_dir, subject)) as file:
        np.savez(file, **arrays)


def load_truth(nsd_dir: str | os.PathLike[str], subject: int) -> Truth:
    """Read the ground truth of a subject of a simulated tree.

    Parameters
    ----------
    nsd_dir : path-like
        Where `simulate_nsd` wrote the tree.
    subject : int

    Returns
    -------
    Truth

    Raises
    ------
    NSDFilesNotFoundError
        If there is no ground truth of this subject.
    FileFormatError
        If the file is no such ground truth.
    """
    path = truth_path(Path(nsd_dir), subject)
    try:
        with np.load(path, allow_pickle=False) as file:
            return _truth({name: file[name] for name in file.files})
    except FileNotFoundError as err:
        raise NSDFilesNotFoundError(
            f"there is no ground truth of subject {subject}",
            got=str(path),
            accepted="a subject of a simulated tree",
        ) from err
    except (BadZipFile, ValueError, KeyError) as err:
        raise FileFormatError(
            "not the ground truth of a simulated subject", got=f"{path}: {err}"
        ) from err


def _truth(arrays: Mapping[str, npt.NDArray[Any]]) -> Truth:
    def under(prefix: str) -> dict[str, npt.NDArray[Any]]:
        return {
            name.removeprefix(prefix): array
            for name, array in arrays.items()
            if name.startswith(prefix)
        }

    return Truth(
        img_num=under("img_num/"),
        drives=under("drives/"),
        synthetic_trials=arrays["synthetic_trials"],
        readout={hemi: arrays[f"{hemi}/readout"] for hemi in HEMIS},
        ncsnr={hemi: arrays[f"{hemi}/ncsnr"] for hemi in HEMIS},
        ncsnr_synthetic={hemi: arrays[f"{hemi}/ncsnr_synthetic"] for hemi in HEMIS},
        rois={hemi: under(f"{hemi}/rois/") for hemi in HEMIS},
    )
