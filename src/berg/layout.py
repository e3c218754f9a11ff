"""Every path inside a berg_dir, written once, and where berg keeps its own data.

The layout is that of the existing BERG toolkit, so that a directory which users already
have on their disks serves unchanged::

    encoding_models/modality-fmri/train_dataset-nsd_fsaverage/model-alexnet_untrained/
        encoding_models_weights/weights_subject-01.npy            (.safetensors beside it)
        metadata/metadata_subject-01.npy
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from berg.errors import InvalidParameterTypeError


def default_berg_dir() -> Path:
    """Return ``$BERG_DIR`` if it is set, else the platform's data directory for berg."""
    return Path(os.environ.get("BERG_DIR") or platformdirs.user_data_path("berg"))


def cache_dir() -> Path:
    """Return ``$BERG_CACHE_DIR`` if it is set, else the platform's cache directory for berg.

    Only what can be made again lies there: the network's weights, the simulated subject.
    """
    return Path(os.environ.get("BERG_CACHE_DIR") or platformdirs.user_cache_path("berg"))


def as_berg_dir(berg_dir: str | os.PathLike[str] | None) -> Path:
    """Return the berg_dir that a user gave as a path; None means the default one.

    Raises
    ------
    InvalidParameterTypeError
        If it is neither None nor a path.
    """
    if berg_dir is None:
        return default_berg_dir()
    if not isinstance(berg_dir, str | os.PathLike):
        raise InvalidParameterTypeError(
            "berg_dir is not a path",
            got=f"{type(berg_dir).__name__}: {berg_dir!r}",
            accepted="a str or pathlib.Path, or None for the default directory",
            do='BERG(berg_dir="path/to/brain-encoding-response-generator")',
        )
    return Path(berg_dir).expanduser()


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model inside a berg_dir.

    Parameters
    ----------
    berg_dir : Path
        The root of the layout.
    modality, train_dataset, model : str
        The three folder names that lead to the model, without their prefixes; for
        example ``"fmri"``, ``"nsd_fsaverage"``, ``"alexnet_untrained"``.
    """

    berg_dir: Path
    modality: str
    train_dataset: str
    model: str

    @property
    def _branch(self) -> Path:
        return Path(
            f"modality-{self.modality}",
            f"train_dataset-{self.train_dataset}",
            f"model-{self.model}",
        )

    @property
    def root(self) -> Path:
        """The model's own folder."""
        return self.berg_dir / "encoding_models" / self._branch

    def weights_npy(self, subject: int) -> Path:
        """Weights of a subject in the existing form, a pickle inside ``.npy``."""
        return self.root / "encoding_models_weights" / f"weights_subject-{subject:02d}.npy"

    def weights_safetensors(self, subject: int) -> Path:
        """Weights of a subject in our pickle-free form, beside the ``.npy``."""
        return self.weights_npy(subject).with_suffix(".safetensors")

    def metadata(self, subject: int) -> Path:
        """Metadata of a subject."""
        return self.root / "metadata" / f"metadata_subject-{subject:02d}.npy"
