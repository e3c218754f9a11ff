"""The meshes that maps can lie on, by FreeSurfer's names: fsaverage and its coarser levels."""

from __future__ import annotations

from berg.errors import InvalidParameterError, did_you_mean
from berg.surface.fsaverage import FULL_LEVEL, level_of, n_vertices

FULL_MESH = "fsaverage"
# fsaverage3 to 6 are FreeSurfer's own; the coarser ones serve simulated brains.
MESHES = {FULL_MESH: FULL_LEVEL} | {
    f"fsaverage{level}": level for level in reversed(range(FULL_LEVEL))
}


def mesh_level(mesh: str) -> int:
    """Return the level of a mesh, 0 (icosahedron) to 7 (fsaverage).

    Parameters
    ----------
    mesh : str
        ``"fsaverage"``, or ``"fsaverage6"`` down to ``"fsaverage0"``.

    Raises
    ------
    InvalidParameterError
        If there is no such mesh.

    Examples
    --------
    >>> mesh_level("fsaverage"), mesh_level("fsaverage5")
    (7, 5)
    """
    if mesh not in MESHES:
        raise InvalidParameterError(
            f"there is no mesh {mesh!r}.{did_you_mean(mesh, MESHES)}",
            got=repr(mesh),
            accepted=", ".join(MESHES),
        )
    return MESHES[mesh]


def mesh_name(level: int) -> str:
    """Return the name of the mesh at a level, 0 (icosahedron) to 7 (fsaverage).

    Raises
    ------
    InvalidParameterError
        If there is no such level.

    Examples
    --------
    >>> mesh_name(7), mesh_name(5)
    ('fsaverage', 'fsaverage5')
    """
    n_vertices(level)  # refuses what is no level
    return next(name for name, of_name in MESHES.items() if of_name == level)


def mesh_size(mesh: str) -> int:
    """Return how many vertices a hemisphere of a mesh has.

    Raises
    ------
    InvalidParameterError
        If there is no such mesh.

    Examples
    --------
    >>> mesh_size("fsaverage5")
    10242
    """
    return n_vertices(mesh_level(mesh))


def mesh_of_size(n: int) -> str:
    """Return the mesh that has so many vertices a hemisphere.

    Raises
    ------
    InvalidParameterError
        If there is no such mesh.

    Examples
    --------
    >>> mesh_of_size(163842), mesh_of_size(2562)
    ('fsaverage', 'fsaverage4')
    """
    return mesh_name(level_of(n))
