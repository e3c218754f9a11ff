"""The stages of a subject's training: where each lies, and what it follows from.

::

    shared_features ─┐
    colour_features ─┤
    features ────────┴► components ─► trials_lh, trials_rh ─► model ─► published
                          measured_lh, measured_rh ─┐
                          synthetic_lh, synthetic_rh ┴► accuracy (`berg test`)

`trials` are made with `measured` in one reading of the betas: the first depends on the images'
scores, the second on the data alone, so that a model from elsewhere is tested by it too.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from numpy.typing import NDArray

from berg import __version__, alexnet
from berg.catalog import ModelCard
from berg.layout import ModelFiles
from berg.nsd.survey import NSDData, SubjectData
from berg.training.stages import Stage, identity

HEMIS = ("lh", "rh")

# Of all whose arithmetic a model follows from.
VERSIONS = {
    "berg": __version__,
    "numpy": np.__version__,
    "scipy": scipy.__version__,
    "torch": torch.__version__,
}

# Raise it when the same data would give another model: earlier stages then do not count.
TRAINING_VERSION = 1


@dataclass(frozen=True)
class Workspace:
    """Where one subject's training keeps its stages, and what they follow from.

    Parameters
    ----------
    card : ModelCard
    files : ModelFiles
        Of the berg_dir that is written to.
    nsd : NSDData
        What `berg.nsd.survey.survey` found.
    subject : int
        Counted from 1.
    device_type : str
        ``"cpu"``, ``"cuda"`` or ``"mps"``: the kinds differ in rounding.
    ridge : bool
        Whether penalties are chosen on the validation images.
    """

    card: ModelCard
    files: ModelFiles
    nsd: NSDData
    subject: int
    device_type: str = "cpu"
    ridge: bool = False

    @property
    def folder(self) -> Path:
        """The subject's own folder."""
        return self.files.prepared / f"subject-{self.subject:02d}"

    @property
    def data(self) -> SubjectData:
        """The subject's part of the dataset."""
        return self.nsd.subjects[self.subject]

    @cached_property
    def shared_features(self) -> Stage:
        """Features of the images that all subjects saw: NSD-core's and NSD-synthetic's.

        Several processes may use it, and each must find its own: the folder is named after what
        it follows from.
        """
        files = self.nsd.files
        follows_from = {
            **self._network,
            "stimuli": self._identities(files.stimuli, files.synthetic_stimuli),
            "images": _digest(self.nsd.design.shared_images),
        }
        own_name = Stage(self.files.prepared, follows_from).fingerprint[:12]
        return Stage(self.files.prepared / f"shared_features-{own_name}", follows_from)

    @cached_property
    def features(self) -> Stage:
        """Features of the training images."""
        return Stage(
            self.folder / "features",
            {
                **self._network,
                "stimuli": self._identities(self.nsd.files.stimuli),
                "images": _digest(self.data.partition.train),
            },
        )

    @cached_property
    def colour_features(self) -> Stage:
        """Features of the images of NSD-synthetic whose colours were made for the subject."""
        colour = self.nsd.files.synthetic_colour_stimuli(self.subject)
        return Stage(
            self.folder / "colour_features",
            {**self._network, "stimuli": self._identities(colour)},
        )

    @cached_property
    def components(self) -> Stage:
        """Scaler and principal components, and the scores of all images."""
        partition = self.data.partition
        return Stage(
            self.folder / "components",
            {
                "features": self.features.fingerprint,
                "shared_features": self.shared_features.fingerprint,
                "colour_features": self.colour_features.fingerprint,
                "n_components": self.card.n_components,
                "images": _digest(partition.val, partition.test),
            },
        )

    def trials(self, hemi: str) -> Stage:
        """Products of the responses with the rows that the regression needs."""
        return Stage(
            self.folder / f"trials_{hemi}",
            {
                "measured": self.measured(hemi).fingerprint,
                "components": self.components.fingerprint,
                "ridge": self.ridge,
            },
        )

    def measured(self, hemi: str) -> Stage:
        """Measured responses to the test images, averaged over repeats."""
        files, data = self.nsd.files, self.data
        betas = (files.betas(self.subject, hemi, n + 1) for n in range(data.n_sessions))
        trial_images = self.nsd.design.trial_images(self.subject, data.n_sessions)
        partition = data.partition
        return Stage(
            self.folder / f"measured_{hemi}",
            {
                **self._versions,
                "betas": self._identities(*betas),
                "images": _digest(trial_images, partition.train, partition.val, partition.test),
            },
        )

    def synthetic(self, hemi: str) -> Stage:
        """Measured responses to NSD-synthetic's images, and their ncsnr."""
        return Stage(
            self.folder / f"synthetic_{hemi}",
            {
                **self._versions,
                "betas": self._identities(self.nsd.files.synthetic_betas(self.subject, hemi)),
                "images": _digest(self.nsd.synthetic_images),
            },
        )

    @cached_property
    def model(self) -> Stage:
        """Weights, metadata and predictions, before they are put into their places."""
        maps = [self.nsd.files.ncsnr(self.subject, hemi) for hemi in HEMIS]
        return Stage(
            self.folder / "model",
            {
                "trials": [self.trials(hemi).fingerprint for hemi in HEMIS],
                "synthetic": [self.synthetic(hemi).fingerprint for hemi in HEMIS],
                "maps": self._identities(*maps, *self.data.roi_files),
                "simulated": self.nsd.simulated,
            },
        )

    @cached_property
    def published(self) -> Stage:
        """That the model's files are in their places."""
        return Stage(self.folder / "published", {"model": self.model.fingerprint})

    @property
    def stages(self) -> list[Stage]:
        """The stages of training, in the order in which they are made."""
        made = [self.shared_features, self.colour_features, self.features, self.components]
        for hemi in HEMIS:
            made += [self.trials(hemi), self.measured(hemi), self.synthetic(hemi)]
        return [*made, self.model]

    @property
    def kept_stages(self) -> list[Stage]:
        """Those that testing needs, too, and that stay."""
        responses = [stage(hemi) for hemi in HEMIS for stage in (self.measured, self.synthetic)]
        return [self.shared_features, self.colour_features, *responses]

    @property
    def _versions(self) -> dict[str, Any]:
        return {
            "training": TRAINING_VERSION,
            "versions": VERSIONS,
        }

    @property
    def _network(self) -> dict[str, Any]:
        return {**self._versions, "network": alexnet.FINGERPRINT, "device": self.device_type}

    def _identities(self, *paths: Path) -> list[list[Any]]:
        return [identity(path, self.nsd.files.nsd_dir) for path in paths]


def _digest(*arrays: NDArray[np.int64]) -> str:
    """SHA-256 of whole numbers, such as image numbers, set by set."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{len(array)}:".encode() + array.astype("<i8").tobytes())
    return digest.hexdigest()
