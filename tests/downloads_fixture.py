"""Downloads at a test's pace from the S3 server of this machine, through a proxy or without."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import JSONFileLoader

import berg
from berg.downloads import pace
from conftest import MODEL_ID
from faulty_proxy import FaultyProxy
from s3_fixture import METADATA, PLOTS, S3, WEIGHTS, some_objects

QUICK = pace.Pace(
    part_bytes=100_000,
    chunk_bytes=16_384,
    first_wait_seconds=0.001,
    longest_wait_seconds=0.002,
    connect_seconds=2,
    read_seconds=0.5,
)
_JSON, _load_file = JSONFileLoader(), JSONFileLoader.load_file  # before it is replaced
OBJECTS = some_objects()
OF_SUBJECT_1 = {WEIGHTS, METADATA, f"{PLOTS}/r2_subject-01.png", f"{PLOTS}/average.svg"}


@cache
def _load_json(path: str) -> Any:
    """Read a file of the S3 client once for all tests: they make a hundred clients."""
    return _load_file(_JSON, path)


@pytest.fixture
def s3(s3_server, monkeypatch) -> S3:
    """The server with its objects as they should be, found by berg without being told."""
    s3_server.reset(OBJECTS)
    monkeypatch.setenv("BERG_ENDPOINT_URL", s3_server.url)
    monkeypatch.setattr(pace, "DEFAULT", QUICK)
    monkeypatch.setattr("botocore.loaders.JSONFileLoader.load_file", lambda self, p: _load_json(p))
    return s3_server


@pytest.fixture
def proxy(s3, monkeypatch) -> Iterator[FaultyProxy]:
    """A proxy in front of the server, which berg goes through."""
    with FaultyProxy(s3.url) as proxy:
        monkeypatch.setenv("BERG_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture
def berg_dir(tmp_path) -> Path:
    return tmp_path / "berg_dir"


def fetch(berg_dir, subjects=1, **options) -> list[str]:
    """Download; return what was told."""
    told: list[str] = []
    berg.download(MODEL_ID, subjects, berg_dir, show_progress=False, tell=told.append, **options)
    return told


def found(berg_dir: Path) -> dict[str, bytes]:
    """Content of all files that are not hidden, but for the manifest."""
    return {
        path.relative_to(berg_dir).as_posix(): path.read_bytes()
        for path in berg_dir.rglob("*")
        if path.is_file() and not path.name.startswith(".") and path.name != "manifest.json"
    }


def whole(keys) -> dict[str, bytes]:
    return {key: OBJECTS[key] for key in keys}


def leftovers(berg_dir: Path) -> list[str]:
    return [path.name for path in berg_dir.rglob(".*.part*")]
