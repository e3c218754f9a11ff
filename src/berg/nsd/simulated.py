"""Whether a dataset is a simulated one: it says so itself, in a file of its own."""

from __future__ import annotations

import json
from pathlib import Path


def marker_path(nsd_dir: Path) -> Path:
    """Where a simulated dataset says that it is one, and how it was made."""
    return nsd_dir / "simulation" / "simulated.json"


def read_marker(nsd_dir: Path) -> dict[str, object] | None:
    """Return how a simulated dataset was made, or None if it is the real one.

    Parameters
    ----------
    nsd_dir : Path

    Returns
    -------
    dict or None
    """
    try:
        marker = json.loads(marker_path(nsd_dir).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return marker if isinstance(marker, dict) and marker.get("simulated") is True else None
