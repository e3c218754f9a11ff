"""Finished files put into a berg_dir: every one whole, and never over another model's unasked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from berg.atomic import replace_atomically
from berg.errors import InvalidParameterError


def check_vacant(targets: Sequence[Path], overwrite: bool) -> None:
    """Refuse to take the place of files that are there.

    Parameters
    ----------
    targets : sequence of Path
        What is going to be written.
    overwrite : bool
        Whether the user asked for it.

    Raises
    ------
    InvalidParameterError
        If one of them exists, and the user did not.
    """
    present = [path for path in targets if path.exists()]
    if present and not overwrite:
        raise InvalidParameterError(
            "there is a model of this subject already, of another training or from a download",
            got=", ".join(map(str, present)),
            accepted="a berg_dir without it",
            do="choose another --berg-dir, or replace the model with --overwrite",
        )


def put_in_place(files: Mapping[Path, Path]) -> None:
    """Give finished files their final names, in order.

    Parameters
    ----------
    files : mapping of Path to Path
        Finished file to final name. The finished ones stay, so that an interrupted call can be
        made again: they are linked where the file system can, and copied where it cannot.

    Raises
    ------
    ResourceError
        If a file cannot be written.
    """
    for finished, target in files.items():
        with replace_atomically(target) as temporary:
            try:
                os.link(finished, temporary)
            except OSError:  # exFAT and some network disks have no hard links
                shutil.copyfile(finished, temporary)
