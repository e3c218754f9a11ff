"""What was downloaded into a model's folder: size, checksums and source of every file.

`manifest.json` lies in the model's folder. It is read as data that anybody may have changed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from berg import __version__
from berg.atomic import write_atomically
from berg.downloads.checksums import FileHashes, RemoteFile
from berg.errors import FileFormatError, ResourceError
from berg.layout import MANIFEST_NAME
from berg.locks import hold

FORMAT = "berg manifest"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Record:
    """What is known of a downloaded file.

    Parameters
    ----------
    n_bytes : int
    sha256 : str
        Of the bytes that were verified, hexadecimal.
    etag : str
        Of the object that they are, as its server gave it.
    source : str
        ``s3://bucket/key``.
    endpoint_url : str
        Of the server.
    fetched_at : str
        ISO 8601, UTC; for a file that was there already, when it was compared with the bucket's.
    berg_version : str
    """

    n_bytes: int
    sha256: str
    etag: str
    source: str
    endpoint_url: str
    fetched_at: str
    berg_version: str

    @classmethod
    def of(cls, remote: RemoteFile, hashes: FileHashes, source: str, endpoint_url: str) -> Record:
        """Make the record of a file that was verified now."""
        return cls(
            hashes.n_bytes,
            hashes.sha256,
            remote.etag,
            source,
            endpoint_url,
            datetime.now(UTC).isoformat(timespec="seconds"),
            __version__,
        )


def load_manifest(folder: Path) -> dict[str, Record]:
    """Read the manifest of a model's folder.

    Parameters
    ----------
    folder : Path
        `ModelFiles.root`.

    Returns
    -------
    dict of str to Record
        By path inside the folder, with forward slashes; empty if there is no manifest.

    Raises
    ------
    FileFormatError
        If it is damaged, or of another version.
    """
    path = folder / MANIFEST_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as err:
        raise ResourceError(
            f"{path} cannot be read", got=str(err), do="check its permissions, and the disk"
        ) from err
    except (ValueError, RecursionError) as err:  # UnicodeDecodeError is one
        raise _damaged(path, f"no JSON: {err}") from err
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _damaged(path, "no manifest of berg")
    if content.get("format_version") != FORMAT_VERSION:
        raise _damaged(path, f"format version {content.get('format_version')!r}")
    files = content.get("files")
    if not isinstance(files, dict):
        raise _damaged(path, "no files")
    return {name: _record(path, name, values) for name, values in files.items()}


def record(folder: Path, path: Path, entry: Record) -> None:
    """Enter a file, or enter it anew.

    Parameters
    ----------
    folder : Path
    path : Path
        Inside the folder.
    entry : Record

    Raises
    ------
    FileFormatError, ResourceError
        If the manifest is damaged, or cannot be written.
    """
    _change(folder, lambda files: files.update({_name(folder, path): entry}))


def check_writable(folder: Path) -> None:
    """Raise before the first byte if what comes could not be entered.

    Parameters
    ----------
    folder : Path
        `ModelFiles.root`; created if need be.

    Raises
    ------
    ResourceError
        If it cannot be written to.
    """
    with hold(folder / MANIFEST_NAME, wait=True):
        pass


def forget(folder: Path, path: Path) -> None:
    """Take a file out, before it is replaced by one that was not downloaded.

    Parameters
    ----------
    folder : Path
    path : Path
        Inside the folder. It need not have been entered.

    Raises
    ------
    FileFormatError, ResourceError
        As `record`.
    """
    if _name(folder, path) in load_manifest(folder):
        _change(folder, lambda files: files.pop(_name(folder, path), None))


def _change(folder: Path, change: Callable[[dict[str, Record]], object]) -> None:
    """Read, change and write the manifest, one process at a time."""
    path = folder / MANIFEST_NAME
    with hold(path, wait=True):
        files = load_manifest(folder)
        change(files)
        content = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "files": {name: asdict(files[name]) for name in sorted(files)},
        }
        with write_atomically(path) as file:
            file.write(json.dumps(content, indent=1).encode() + b"\n")


def _name(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _record(path: Path, name: str, values: object) -> Record:
    expected: Mapping[str, type] = {
        field.name: int if field.name == "n_bytes" else str for field in fields(Record)
    }
    if (
        not isinstance(values, dict)
        or values.keys() != expected.keys()
        or any(type(values[key]) is not kind for key, kind in expected.items())
    ):
        raise _damaged(path, f"what it has of {name!r} is not a record")
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise _damaged(path, f"{name!r}, which is outside of the folder")
    return Record(**values)


def _damaged(path: Path, got: str) -> FileFormatError:
    return FileFormatError(
        f"{path} is damaged, or of another version of berg",
        got=got,
        accepted=f"{FORMAT}, version {FORMAT_VERSION}",
        do="delete it: `berg download` compares the files with the bucket and enters them again",
    )
