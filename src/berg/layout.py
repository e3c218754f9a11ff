"""Every path inside a berg_dir and inside an NSD directory, and where berg keeps its own data.

The layout is that of the existing BERG toolkit, so that a directory which users already
have on their disks serves unchanged::

    encoding_models/modality-fmri/train_dataset-nsd_fsaverage/model-alexnet_untrained/
        encoding_models_weights/weights_subject-01.npy            (.safetensors beside it)
        metadata/metadata_subject-01.npy
        encoding_models_accuracy/                                 pictures
        manifest.json                                             what was downloaded
    model_training_datasets/train_dataset-nsd_fsaverage/          what training keeps
    results/test_encoding_models/modality-fmri/train_dataset-nsd_fsaverage/
        model-alexnet_untrained/lh_betas_test_pred_subject-1.npy

The Natural Scenes Dataset is laid out as in its public bucket.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from berg.errors import InvalidParameterTypeError
from berg.files import list_folder

_NETWORK, _SIMULATION = "alexnet_untrained-", "simulated-"  # how names in the cache begin
_CACHED_NETWORK = re.compile(rf"{_NETWORK}[0-9a-f]{{12}}\.safetensors")
_CACHED_SIMULATION = re.compile(rf"{_SIMULATION}[0-9]+")
WEIGHTS_FOLDER = "encoding_models_weights"  # these three inside a model's folder
METADATA_FOLDER = "metadata"
MANIFEST_NAME = "manifest.json"


def default_berg_dir() -> Path:
    """Return ``$BERG_DIR`` if it is set, else the platform's data directory for berg."""
    return Path(os.environ.get("BERG_DIR") or platformdirs.user_data_path("berg"))


def cache_dir() -> Path:
    """Return ``$BERG_CACHE_DIR`` if it is set, else the platform's cache directory for berg.

    Only what can be made again lies there: the network's weights, the simulated subject.
    """
    return Path(os.environ.get("BERG_CACHE_DIR") or platformdirs.user_cache_path("berg"))


def cached_network(fingerprint: str) -> Path:
    """Where the weights of the untrained network are kept that has this fingerprint."""
    return cache_dir() / f"{_NETWORK}{fingerprint[:12]}.safetensors"


def cached_simulation(version: int) -> Path:
    """Return the berg_dir of the demo's simulated subject, apart from any real model."""
    return cache_dir() / f"{_SIMULATION}{version}"


def cached_networks() -> list[Path]:
    """Return the networks that are cached, of this version of berg and of others.

    A file whose name only begins alike is somebody's own.
    """
    return [path for path in _cached(_CACHED_NETWORK) if os.path.isfile(path)]


def cached_simulations() -> list[Path]:
    """Return the simulated subjects' berg_dirs that are cached, of all versions of berg."""
    return [path for path in _cached(_CACHED_SIMULATION) if os.path.isdir(path)]


def _cached(name: re.Pattern[str]) -> list[Path]:
    return [path for path in list_folder(cache_dir()) if name.fullmatch(path.name)]


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
        return self.root / WEIGHTS_FOLDER / f"weights_subject-{subject:02d}.npy"

    def weights_safetensors(self, subject: int) -> Path:
        """Weights of a subject in our pickle-free form, beside the ``.npy``."""
        return self.weights_npy(subject).with_suffix(".safetensors")

    def metadata(self, subject: int) -> Path:
        """Metadata of a subject."""
        return self.root / METADATA_FOLDER / f"metadata_subject-{subject:02d}.npy"

    @property
    def accuracy_plots(self) -> Path:
        """Folder of the pictures of accuracy."""
        return self.root / "encoding_models_accuracy"

    @property
    def manifest(self) -> Path:
        """What was downloaded into the model's folder, with checksums, JSON."""
        return self.root / MANIFEST_NAME

    @property
    def prepared(self) -> Path:
        """What training prepares from the measured data, and keeps to go on from."""
        return self.berg_dir / "model_training_datasets" / f"train_dataset-{self.train_dataset}"

    def predictions(self, subject: int, hemi: str, images: str) -> Path:
        """Predicted responses of a hemisphere to ``"test"`` or ``"nsdsynthetic"`` images."""
        folder = self.berg_dir / "results" / "test_encoding_models" / self._branch
        return folder / f"{hemi}_betas_{images}_pred_subject-{subject}.npy"


@dataclass(frozen=True)
class NSDFiles:
    """The files of the Natural Scenes Dataset that model building reads.

    Parameters
    ----------
    nsd_dir : Path
        The user's copy of the dataset; its folders are ``nsddata``, ``nsddata_betas`` and
        ``nsddata_stimuli``. Subjects and sessions count from 1.
    """

    nsd_dir: Path

    @property
    def design(self) -> Path:
        """Which image was shown in which trial of NSD-core, MATLAB 5."""
        return self.nsd_dir / "nsddata/experiments/nsd/nsd_expdesign.mat"

    @property
    def synthetic_design(self) -> Path:
        """The same of NSD-synthetic."""
        return self.nsd_dir / "nsddata/experiments/nsdsynthetic/nsdsynthetic_expdesign.mat"

    @property
    def stimuli(self) -> Path:
        """All 73,000 images of NSD-core, HDF5."""
        return self.nsd_dir / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5"

    @property
    def synthetic_stimuli(self) -> Path:
        """The images of NSD-synthetic that all subjects saw, HDF5."""
        return self._synthetic_stimuli / "nsdsynthetic_stimuli.hdf5"

    def synthetic_colour_stimuli(self, subject: int) -> Path:
        """Return the images of NSD-synthetic with colours made for a subject, HDF5."""
        return self._synthetic_stimuli / f"nsdsynthetic_colorstimuli_subj{subject:02d}.hdf5"

    def betas(self, subject: int, hemi: str, session: int) -> Path:
        """Single-trial responses of a session of NSD-core, MGH."""
        return self._core_betas(subject) / f"{hemi}.betas_session{session:02d}.mgh"

    def ncsnr(self, subject: int, hemi: str) -> Path:
        """Noise-ceiling signal-to-noise ratio of NSD-core, MGH."""
        return self._core_betas(subject) / f"{hemi}.ncsnr.mgh"

    def synthetic_betas(self, subject: int, hemi: str) -> Path:
        """Single-trial responses of NSD-synthetic, MGH."""
        folder = self._betas(subject) / "nsdsyntheticbetas_fithrf_GLMdenoise_RR"
        return folder / f"{hemi}.betas_nsdsynthetic.mgh"

    def roi_labels(self, subject: int, hemi: str, collection: str) -> Path:
        """Regions of a collection on the subject's own surface, one number a vertex."""
        return self._labels(f"subj{subject:02d}") / f"{hemi}.{collection}.mgz"

    def roi_names(self, subject: int, collection: str) -> Path:
        """Names of a collection's numbers, for both hemispheres."""
        return self._labels(f"subj{subject:02d}") / f"{collection}.mgz.ctab"

    def fsaverage_nsdgeneral(self, hemi: str) -> Path:
        """Return nsdgeneral where it was drawn, on fsaverage."""
        return self._labels("fsaverage") / f"{hemi}.nsdgeneral.mgz"

    def white_to_fsaverage(self, subject: int, hemi: str) -> Path:
        """For each fsaverage vertex the 1-based vertex of the subject's own surface."""
        folder = self.nsd_dir / f"nsddata/ppdata/subj{subject:02d}/transforms"
        return folder / f"{hemi}.white-to-fsaverage.mgz"

    def relative(self, path: Path) -> str:
        """Return a file's path inside the dataset, for messages."""
        return path.relative_to(self.nsd_dir).as_posix()

    @property
    def _synthetic_stimuli(self) -> Path:
        return self.nsd_dir / "nsddata_stimuli/stimuli/nsdsynthetic"

    def _betas(self, subject: int) -> Path:
        return self.nsd_dir / f"nsddata_betas/ppdata/subj{subject:02d}/fsaverage"

    def _core_betas(self, subject: int) -> Path:
        return self._betas(subject) / "betas_fithrf_GLMdenoise_RR"

    def _labels(self, name: str) -> Path:
        return self.nsd_dir / "nsddata/freesurfer" / name / "label"
