"""What is found out before a simulated NSD tree is written: may it be, and does it fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from berg.atomic import write_atomically
from berg.errors import InvalidParameterError, MissingExtraError, ResourceError
from berg.nsd.simulated import marker_path, read_marker
from berg.resources import free_disk_bytes, show_bytes
from berg.simulation.natural_images import check_photographs


def check_extras() -> None:
    """Raise `MissingExtraError` unless all optional packages are there."""
    check_photographs()
    for package in ("h5py", "nibabel", "scipy"):
        if find_spec(package) is None:
            raise MissingExtraError(
                "a simulated NSD is written in NSD's own formats",
                got=f"no {package}",
                do='pip install "berg[nsd,simulate]"',
            )


def mark_simulated(root: Path, made_with: Mapping[str, object], n_bytes: int) -> None:
    """Mark a folder as a simulated tree, if it may be one.

    Parameters
    ----------
    root : Path
    made_with : mapping of str
        What says how the tree is made; whoever finds it knows that the tree is simulated.
    n_bytes : int
        About how large the whole tree will be.

    Raises
    ------
    InvalidParameterError
        If something else is there, or a simulated tree that was made otherwise.
    ResourceError
        If the disk has too little space for what is not there yet.
    """
    known = read_marker(root)
    if known is not None and "sessions" in made_with:
        known.setdefault("sessions", made_with["sessions"])  # older markers leave it out
    if known is None and root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise InvalidParameterError(
            "there is something else already where the simulated NSD should be",
            got=str(root),
            accepted="an empty folder, or a simulated tree",
            do="choose another folder",
        )
    if known is not None and known != made_with:
        names = [name for name in made_with if known.get(name) != made_with[name]]
        raise InvalidParameterError(
            "there is another simulated NSD already",
            got=f"{root}, made with " + ", ".join(f"{name}={known.get(name)!r}" for name in names),
            accepted=", ".join(f"{name}={made_with[name]!r}" for name in names),
            do="choose another folder, or delete this one",
        )
    there = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    free = free_disk_bytes(root)
    if n_bytes - there > free:
        raise ResourceError(
            "the disk has too little space for the simulated NSD",
            got=f"{show_bytes(free)} free for {root}",
            accepted=show_bytes(n_bytes - there),
            do="make space, or ask for fewer sessions or a lower level",
        )
    with write_atomically(marker_path(root)) as file:
        file.write(json.dumps(made_with, indent=2).encode())
