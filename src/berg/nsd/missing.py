"""Files that should be there and are not: one message that names each of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from berg.errors import NSDFilesNotFoundError
from berg.layout import NSDFiles

ACCESS = "get the dataset as https://naturalscenesdataset.org describes"
GET_AGAIN = "download this one file again, or copy it again"


def files_not_found(
    files: NSDFiles, missing: Sequence[Path], do: str | None = None
) -> NSDFilesNotFoundError:
    """Return the error that names missing files by their paths inside the dataset.

    Parameters
    ----------
    files : NSDFiles
    missing : sequence of Path
        At least one.
    do : str, optional
        The next step, where it is another than to get the files.
    """
    names = "".join(f"\n            {files.relative(path)}" for path in missing)
    which = "1 file" if len(missing) == 1 else f"{len(missing)} files"
    return NSDFilesNotFoundError(
        f"{which} of the Natural Scenes Dataset not found",
        got=f"in {files.nsd_dir} there is no{names}",
        do=do or ACCESS,
    )


def check_is_file(path: Path) -> None:
    """Raise if there is no such file.

    Raises
    ------
    NSDFilesNotFoundError
    """
    if not path.is_file():
        raise NSDFilesNotFoundError(
            f"{path.name} not found",
            got=f"no file {path}",
            do=ACCESS,
        )
