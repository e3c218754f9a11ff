"""Where fsaverage's own surfaces lie at full resolution, for those who have them or fetch them.

Pictures need none of these: fsaverage5, inside nilearn's package, subdivided, looks the same from
a distance. The full surfaces have finer folds. They are looked for in the folder that the user
names, in FreeSurfer's, where nilearn keeps its downloads, and at last nilearn downloads them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from berg.errors import (
    FileFormatError,
    InvalidParameterError,
    MissingExtraError,
    ResourceError,
    did_you_mean,
)
from berg.resources import check_online
from berg.surface.fsaverage import FULL_LEVEL, Hemi, faces, load_packaged, n_vertices, upsample

MESHES = ("fsaverage5", "fsaverage")
FOLDER_VARIABLE = "BERG_FSAVERAGE_DIR"
_SIDES = {"lh": "left", "rh": "right"}
_WAYS = (
    f"--mesh-dir or ${FOLDER_VARIABLE}: a folder with infl_left.gii.gz, infl_right.gii.gz\n"
    "            (nilearn's names) or lh.inflated, rh.inflated (FreeSurfer's); or $SUBJECTS_DIR\n"
    "            with FreeSurfer's fsaverage; or the network, from which nilearn fetches them;\n"
    "            or mesh 'fsaverage5', which needs none of these"
)


@dataclass(frozen=True)
class FullMesh:
    """A folder with the full surfaces of both hemispheres; `find_full_mesh` makes one.

    Parameters
    ----------
    folder : Path
    by_freesurfer : bool
        Whether the files have FreeSurfer's names and formats, else nilearn's (GIfTI).
    """

    folder: Path
    by_freesurfer: bool

    @property
    def has_flat(self) -> bool:
        """Whether there are flat maps of both hemispheres (FreeSurfer's have another form)."""
        return not self.by_freesurfer and all(
            (self.folder / f"flat_{side}.gii.gz").is_file() for side in _SIDES.values()
        )

    def load(
        self, hemi: Hemi, surface: Literal["infl", "flat"]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """Read the vertices, float32 (163842, 3) in mm, and the faces, int32 (n_faces, 3).

        Raises
        ------
        FileFormatError
            The file cannot be read, or its vertices are not those of fsaverage.
        """
        path = self._path(hemi, surface)
        arrays = _read(path, self.by_freesurfer)
        if not _are_fsaverages(arrays, surface):
            raise FileFormatError(
                f"{path} is not a surface of fsaverage",
                got="arrays of shape " + ", ".join(str(array.shape) for array in arrays),
                accepted=f"fsaverage's {n_vertices()} vertices, joined by its own faces",
                do="name another folder, or take mesh 'fsaverage5'",
            )
        vertices, triangles = arrays
        return vertices.astype(np.float32), triangles.astype(np.int32)

    def load_sulci(self, hemi: Hemi) -> npt.NDArray[np.float32]:
        """Read the depth of the sulci, float32 (163842,); fsaverage5's where there is none.

        Raises
        ------
        FileFormatError
            The file cannot be read, or has another number of vertices.
        """
        path = self._path(hemi, "sulc")
        if not path.is_file():
            return sulcal_depth(hemi)
        arrays = _read(path, self.by_freesurfer)
        if [array.shape for array in arrays] != [(n_vertices(),)]:
            raise FileFormatError(
                f"{path} is not a map of fsaverage",
                got="arrays of shape " + ", ".join(str(array.shape) for array in arrays),
                accepted=f"one of ({n_vertices()},)",
                do="name another folder, or take mesh 'fsaverage5'",
            )
        return arrays[0].astype(np.float32)

    def _path(self, hemi: Hemi, surface: Literal["infl", "flat", "sulc"]) -> Path:
        if self.by_freesurfer:
            return self.folder / f"{hemi}.{'inflated' if surface == 'infl' else surface}"
        return self.folder / f"{surface}_{_SIDES[hemi]}.gii.gz"


@lru_cache(maxsize=4)
def sulcal_depth(hemi: Hemi, full: FullMesh | None = None) -> npt.NDArray[np.float32]:
    """Return the depth of the sulci, positive in them, float32 (163842,).

    Parameters
    ----------
    hemi : {"lh", "rh"}
    full : FullMesh, optional
        Where it is read; by default it is fsaverage5's, interpolated.
    """
    if full is not None:
        return full.load_sulci(hemi)
    return upsample(load_packaged(hemi, "sulc")[0], FULL_LEVEL)


def choose_mesh(mesh: str, mesh_dir: str | os.PathLike[str] | None = None) -> FullMesh | None:
    """Return the full surfaces for mesh ``"fsaverage"``, and None for ``"fsaverage5"``.

    Parameters
    ----------
    mesh : {"fsaverage5", "fsaverage"}
    mesh_dir : path-like, optional
        As for `find_full_mesh`.

    Raises
    ------
    InvalidParameterError
        There is no such mesh.
    ResourceError
        As `find_full_mesh`.
    """
    if mesh not in MESHES:
        raise InvalidParameterError(
            "there are no pictures on such a mesh",
            got=repr(mesh),
            accepted=", ".join(MESHES) + "." + did_you_mean(mesh, MESHES),
        )
    return find_full_mesh(mesh_dir) if mesh == "fsaverage" else None


def find_full_mesh(mesh_dir: str | os.PathLike[str] | None = None) -> FullMesh:
    """Find the full surfaces of fsaverage, or have nilearn download them.

    Parameters
    ----------
    mesh_dir : path-like, optional
        The only place to look. By default ``$BERG_FSAVERAGE_DIR``, which is then the only place,
        too; else ``$SUBJECTS_DIR/fsaverage/surf``, nilearn's data directories, and a download
        into the first of these, unless ``$BERG_OFFLINE`` is set.

    Returns
    -------
    FullMesh

    Raises
    ------
    ResourceError
        They are nowhere, and cannot be downloaded.
    OfflineError
        They are nowhere, and the environment variable ``BERG_OFFLINE`` forbids the download.
    """
    named = mesh_dir or os.environ.get(FOLDER_VARIABLE)
    if named:
        root = Path(named).expanduser()
        for folder in (root, root / "surf", root / "fsaverage" / "surf", root / "fsaverage"):
            if found := _in_folder(folder):
                return found
        raise ResourceError(
            "the folder has no surfaces of fsaverage", got=os.fspath(root), accepted=_WAYS
        )
    for folder in _usual_folders():
        if found := _in_folder(folder):
            return found
    return _download()


def _usual_folders() -> Iterator[Path]:
    if subjects := os.environ.get("SUBJECTS_DIR"):
        yield Path(subjects, "fsaverage", "surf")
    if find_spec("nilearn") is not None:
        from nilearn.datasets import get_data_dirs

        for folder in get_data_dirs():
            yield Path(folder, "fsaverage")


def _in_folder(folder: Path) -> FullMesh | None:
    if all((folder / f"infl_{side}.gii.gz").is_file() for side in _SIDES.values()):
        return FullMesh(folder.resolve(), by_freesurfer=False)
    if all((folder / f"{hemi}.inflated").is_file() for hemi in _SIDES):
        return FullMesh(folder.resolve(), by_freesurfer=True)
    return None


def _download() -> FullMesh:
    check_online(f"have the full surfaces of fsaverage on this machine:\n            {_WAYS}")
    if find_spec("nilearn") is None:
        raise MissingExtraError(
            "the full surfaces of fsaverage are not on this machine, and nilearn downloads them",
            got="no nilearn",
            accepted=_WAYS,
            do='pip install "berg[plot]"',
        )
    from nilearn.datasets import fetch_surf_fsaverage

    try:
        found = _in_folder(Path(fetch_surf_fsaverage("fsaverage")["infl_left"]).parent)
    except OSError as err:  # what requests raises is one, too
        raise ResourceError(
            "the full surfaces of fsaverage could not be downloaded", got=str(err), accepted=_WAYS
        ) from err
    if found is None:
        raise ResourceError(
            "nilearn's download has no inflated surfaces", got="none", accepted=_WAYS
        )
    return found


def _are_fsaverages(arrays: tuple[npt.NDArray[Any], ...], surface: Literal["infl", "flat"]) -> bool:
    """Whether these are vertices and faces of fsaverage; a flat surface lacks some faces."""
    if [array.ndim for array in arrays] != [2, 2]:
        return False
    vertices, triangles = arrays
    if vertices.shape != (n_vertices(), 3) or triangles.shape[1] != 3:
        return False
    if surface == "infl":
        return np.array_equal(triangles, faces())
    return triangles.size > 0 and triangles.min() >= 0 and triangles.max() < n_vertices()


def _read(path: Path, by_freesurfer: bool) -> tuple[npt.NDArray[Any], ...]:
    """Read the arrays of a file: vertices and faces of a surface, or one map."""
    from xml.parsers.expat import ExpatError

    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.freesurfer import io as freesurfer

    try:
        if not by_freesurfer:
            image: Any = nibabel.load(path)
            return tuple(array.data for array in image.darrays)
        if path.suffix == ".sulc":
            return (freesurfer.read_morph_data(path),)  # type: ignore[no-untyped-call]
        return tuple(freesurfer.read_geometry(path))  # type: ignore[no-untyped-call]
    except (OSError, EOFError, ValueError, IndexError, ExpatError, ImageFileError) as err:
        raise FileFormatError(
            f"{path} cannot be read",
            got=str(err),
            accepted="a surface of fsaverage, as FreeSurfer or nilearn has it",
            do="get the file again, or take mesh 'fsaverage5'",
        ) from err
