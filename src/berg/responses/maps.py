"""One number per vertex: a map of both hemispheres, and the ways to look at it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from berg.atomic import write_atomically
from berg.errors import (
    InvalidParameterError,
    InvalidParameterTypeError,
    MissingExtraError,
    did_you_mean,
)
from berg.responses.meshes import FULL_MESH, mesh_level, mesh_name, mesh_size
from berg.responses.readout import HEMISPHERES, Hemisphere
from berg.responses.surface_files import (
    SUFFIXES,
    HemisphereFile,
    Kind,
    check_free,
    encode,
    safe_name,
)
from berg.surface.fsaverage import PACKAGED_LEVEL, faces, load_packaged, sphere

if TYPE_CHECKING:
    from nilearn.surface import SurfaceImage

MapSurface = Literal["infl", "pial", "sphere"]
_SURFACES: tuple[MapSurface, ...] = ("infl", "pial", "sphere")


@dataclass(frozen=True, eq=False)
class SurfaceMap:
    """One number for each selected vertex of both hemispheres.

    Iterating over it gives the two arrays: ``lh, rh = responses.mean_over_images()``.

    Parameters
    ----------
    lh, rh : numpy.ndarray of floating dtype, shapes (n_lh,), (n_rh,)
        Values of the selected vertices.
    lh_vertices, rh_vertices : numpy.ndarray of int64, shapes (n_lh,), (n_rh,)
        Vertices of the mesh (0-based) that the values stand for, each once.
    name : str
        What the map shows: ``"mean over 200 images"``, or the name of an image.
    units : str
        Units of the values: ``"z"``, ``"z²"``.
    mesh : str, default "fsaverage"
        ``"fsaverage"`` (163,842 vertices a hemisphere), ``"fsaverage6"`` (40,962),
        ``"fsaverage5"`` (10,242) and so on.
    provenance : mapping
        What made the map, as `EncodingModel.provenance` returns it: plain strings, numbers, lists.

    Raises
    ------
    InvalidParameterError
        If values and vertices are not of one length, or the mesh has no such vertices.

    Examples
    --------
    >>> import numpy as np
    >>> both = np.array([0, 2])
    >>> height = SurfaceMap(np.ones(2), np.zeros(2), both, both, "height", "mm", "fsaverage0")
    >>> lh, rh = height
    >>> lh
    array([1., 1.])
    >>> height.whole()[0]
    array([ 1., nan,  1., nan, nan, nan, nan, nan, nan, nan, nan, nan])
    """

    lh: NDArray[np.floating[Any]]
    rh: NDArray[np.floating[Any]]
    lh_vertices: NDArray[np.int64]
    rh_vertices: NDArray[np.int64]
    name: str
    units: str
    mesh: str = FULL_MESH
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        size = mesh_size(self.mesh)
        for hemi, values, vertices in self._hemispheres():
            if values.ndim != 1 or values.shape != vertices.shape or values.dtype.kind != "f":
                raise InvalidParameterError(
                    f"the {hemi} map is not one number per vertex",
                    got=f"{values.dtype} values {values.shape} of vertices {vertices.shape}",
                    accepted="floats (n,) of vertices (n,)",
                )
            if len(vertices) and not 0 <= vertices.min() <= vertices.max() < size:
                raise InvalidParameterError(
                    f"{self.mesh} has no such vertices",
                    got=f"{hemi}_vertices {vertices.min()} to {vertices.max()}",
                    accepted=f"0 to {size - 1}",
                )

    def __iter__(self) -> Iterator[NDArray[np.floating[Any]]]:
        """Give the values of the left hemisphere, then those of the right."""
        return iter((self.lh, self.rh))

    def __repr__(self) -> str:
        return (
            f"<SurfaceMap {self.name!r} ({self.units}), "
            f"{len(self.lh)} + {len(self.rh)} vertices of {self.mesh}>"
        )

    def whole(
        self, fill: float = np.nan
    ) -> tuple[NDArray[np.floating[Any]], NDArray[np.floating[Any]]]:
        """Return the map with an entry for every vertex of the mesh.

        Parameters
        ----------
        fill : float, default NaN
            What stands for vertices that were not selected.

        Returns
        -------
        lh, rh : numpy.ndarray of the map's dtype, shape (n_vertices,)
            New arrays, as `berg.plotting.plot_surface` takes them.
        """
        whole = []
        for _, values, vertices in self._hemispheres():
            whole.append(np.full(mesh_size(self.mesh), fill, dtype=values.dtype))
            whole[-1][vertices] = values
        return whole[0], whole[1]

    def to_gifti(
        self, folder: str | os.PathLike[str], name: str | None = None
    ) -> tuple[Path, Path]:
        """Write the map as GIFTI, for Connectome Workbench, Freeview and nilearn.

        Parameters
        ----------
        folder : path-like
            Created if need be. The files are ``lh.subject-01_NAME.func.gii`` and ``rh.…``, without
            the subject if the provenance has none. In the map's name other characters than
            letters, digits and ``._+=-`` become ``-``.
        name : str, optional
            Another name for the map: ``"faces-minus-houses"``.

        Returns
        -------
        lh, rh : Path
            Of the files: float32, one value for each vertex of the mesh, NaN where a vertex was
            not selected. There are always two, also where a hemisphere has no selected vertex.
            Name, units, mesh and provenance (JSON) stand in the metadata.

        Raises
        ------
        InvalidParameterError
            If there is a file of either name with other bytes: nothing is overwritten.
        MissingExtraError
            If nibabel is not installed.
        ResourceError
            If the files cannot be written.
        """
        return self._write(folder, name, "gifti")

    def to_mgh(self, folder: str | os.PathLike[str], name: str | None = None) -> tuple[Path, Path]:
        """Write the map as FreeSurfer overlays, for Freeview.

        nilearn reads this format only compressed (``.mgz``): give it what `to_gifti` writes.

        Parameters
        ----------
        folder : path-like
        name : str, optional
            As for `to_gifti`; the files are ``lh.subject-01_NAME.mgh`` and ``rh.…``.

        Returns
        -------
        lh, rh : Path
            Of the files: float32 (n_vertices, 1, 1), NaN where a vertex was not selected. The
            format has no place for name, units and provenance.

        Raises
        ------
        InvalidParameterError
            If there is a file of either name with other bytes: nothing is overwritten.
        MissingExtraError
            If nibabel is not installed.
        ResourceError
            If the files cannot be written.
        """
        return self._write(folder, name, "mgh")

    def _write(
        self, folder: str | os.PathLike[str], name: str | None, kind: Kind
    ) -> tuple[Path, Path]:
        if not isinstance(name, str | None):
            raise InvalidParameterTypeError(
                "the name of a map is not a string",
                got=f"{type(name).__name__}: {name!r}"[:200],
                accepted='a string, as "faces-minus-houses"',
                do="leave it out for the map's own name",
            )
        content = self if name is None else replace(self, name=name)
        return write_map(content, folder, safe_name(content.name), kind)

    def to_nilearn(self, surface: MapSurface = "infl") -> SurfaceImage:
        """Return the map as a surface image of nilearn.

        Parameters
        ----------
        surface : {"infl", "pial", "sphere"}
            Inflated, pial or spherical surface. Finer meshes than fsaverage5 have only the
            sphere, which is computed: the others would have to be downloaded.

        Returns
        -------
        nilearn.surface.SurfaceImage
            NaN where a vertex was not selected.

        Raises
        ------
        InvalidParameterError
            If there is no such surface of this mesh.
        MissingExtraError
            If nilearn is not installed.
        """
        level = mesh_level(self.mesh)
        if surface not in _SURFACES:
            raise InvalidParameterError(
                f"there is no surface {surface!r}.{did_you_mean(surface, _SURFACES)}",
                got=repr(surface),
                accepted=", ".join(map(repr, _SURFACES)),
            )
        if surface != "sphere" and level > PACKAGED_LEVEL:
            raise InvalidParameterError(
                f"the {surface} surface of {self.mesh} is not at hand",
                got=f"surface={surface!r} of a map on {self.mesh}",
                accepted=f"surface='sphere', or a map on {mesh_name(PACKAGED_LEVEL)}",
                do="make the map from responses.to_fsaverage5(), or take surface='sphere'",
            )
        if find_spec("nilearn") is None:
            raise MissingExtraError(
                "a surface image needs nilearn", got="no nilearn", do='pip install "berg[plot]"'
            )
        from nilearn.surface import InMemoryMesh, PolyMesh, SurfaceImage

        lh, rh = self.whole()
        left, right = (
            # Copies: nilearn's plots move a mesh to the middle in place.
            InMemoryMesh(_positions(hemi, surface, level).copy(), faces(level).copy())
            for hemi in HEMISPHERES
        )
        return SurfaceImage(PolyMesh(left=left, right=right), {"left": lh, "right": rh})

    def _hemispheres(
        self,
    ) -> tuple[tuple[Hemisphere, NDArray[np.floating[Any]], NDArray[np.int64]], ...]:
        return (("lh", self.lh, self.lh_vertices), ("rh", self.rh, self.rh_vertices))


def map_paths(
    folder: str | os.PathLike[str], name: str, kind: Kind, provenance: Mapping[str, Any]
) -> tuple[Path, Path]:
    """Return the files of a map, left and right.

    Parameters
    ----------
    folder : path-like
    name : str
        What stands before the ending, a safe name.
    kind : {"gifti", "mgh"}
    provenance : mapping
        The files of a subject that it names do not meet those of another in one folder.
    """
    subject = provenance.get("subject")
    if isinstance(subject, int | np.integer):
        subject = f"{subject:02}"
    label = "" if subject is None else safe_name(f"subject-{subject}") + "_"
    lh, rh = (Path(folder, f"{hemi}.{label}{name}{SUFFIXES[kind]}") for hemi in HEMISPHERES)
    return lh, rh


def write_map(
    content: SurfaceMap, folder: str | os.PathLike[str], name: str, kind: Kind
) -> tuple[Path, Path]:
    """Write both hemispheres of a map, each file whole or not at all.

    Parameters
    ----------
    content : SurfaceMap
    folder : path-like
        Created if need be.
    name : str
        As `map_paths` takes it.
    kind : {"gifti", "mgh"}

    Returns
    -------
    lh, rh : Path

    Raises
    ------
    InvalidParameterError
        If there is a file of either name with other bytes. Neither is written then.
    MissingExtraError
        If nibabel is not installed.
    ResourceError
        If the files cannot be written.
    """
    paths = map_paths(folder, name, kind, content.provenance)
    files = list(zip(paths, encode_map(content, kind), strict=True))
    for path, encoded in files:
        check_free(path, encoded)
    for path, encoded in files:
        with write_atomically(path) as file:
            file.write(encoded)
    return paths


def encode_map(content: SurfaceMap, kind: Kind) -> tuple[bytes, bytes]:
    """Return the bytes of a map's files, left and right."""
    lh, rh = (
        encode(
            HemisphereFile(
                values, hemi, content.name, content.units, content.mesh, content.provenance
            ),
            kind,
        )
        for hemi, values in zip(HEMISPHERES, content.whole(), strict=True)
    )
    return lh, rh


def _positions(hemi: Hemisphere, surface: MapSurface, level: int) -> NDArray[np.float32]:
    """Return the vertices of a surface, (n_vertices, 3) in mm."""
    if surface == "sphere":
        return sphere(hemi, level).vertices
    # Levels are nested: the vertices of a coarser one come first.
    positions: NDArray[np.float32] = load_packaged(hemi, surface)[0][: mesh_size(mesh_name(level))]
    return positions
