"""Checksums, and files on their way."""

from __future__ import annotations

import hashlib
import shutil

import pytest

from berg.downloads.bucket import Bucket
from berg.downloads.checksums import FileHashes, RemoteFile, hash_file
from berg.downloads.parts import PartFile, count_done, discard_part
from berg.errors import FilesDifferError
from downloads_fixture import (
    OBJECTS,
    OF_SUBJECT_1,
    berg_dir,
    fetch,
    found,
    proxy,
    s3,
    whole,
)
from s3_fixture import METADATA, WEIGHTS

__all__ = ["berg_dir", "proxy", "s3"]  # fixtures

pytestmark = pytest.mark.enable_socket  # of this machine alone

# --- checksums


@pytest.mark.parametrize("n_bytes", [0, 1, 999, 1000, 1001, 2000, 5 * 2**20])
@pytest.mark.parametrize("part_bytes", [None, 1000])
def test_checksums_are_those_of_hashlib(tmp_path, rng, n_bytes, part_bytes):
    content = rng.bytes(n_bytes)
    (tmp_path / "file").write_bytes(content)
    etag = hashlib.md5(content).hexdigest()
    if part_bytes:
        digests = [
            hashlib.md5(content[start : start + part_bytes]).digest()
            for start in range(0, n_bytes, part_bytes)
        ]
        etag = f"{hashlib.md5(b''.join(digests)).hexdigest()}-{len(digests)}"
    counted: list[int] = []
    hashes = hash_file(tmp_path / "file", part_bytes, counted.append)
    assert hashes == FileHashes(n_bytes, hashlib.sha256(content).hexdigest(), etag)
    assert sum(counted) == n_bytes


def test_where_the_etag_is_no_md5_the_size_is_compared_and_it_is_said(
    s3, berg_dir, monkeypatch, caplog
):
    real = Bucket.find

    def find(self, key) -> RemoteFile:
        remote = real(self, key)
        return RemoteFile(remote.key, remote.n_bytes, remote.etag, has_md5=False)

    monkeypatch.setattr(Bucket, "find", find)
    fetch(berg_dir)
    assert found(berg_dir) == whole(OF_SUBJECT_1)
    assert "gives no checksum" in caplog.text
    fetch(berg_dir)  # by the manifest's SHA-256
    shutil.rmtree(berg_dir / "encoding_models", ignore_errors=True)
    for key in (WEIGHTS, METADATA):
        (berg_dir / key).parent.mkdir(parents=True)
        (berg_dir / key).write_bytes(OBJECTS[key])
    with pytest.raises(FilesDifferError, match="no checksum to compare it with"):
        fetch(berg_dir)


# --- parts


def test_a_journal_that_broke_off_says_less_and_never_more(tmp_path, rng):
    remote = RemoteFile("key", 10_000, "etag", has_md5=True)
    target = tmp_path / "target"
    written: set[int] = set()
    with PartFile(target, remote) as part:
        for start in rng.permutation(10)[:6] * 1000:
            part.write(int(start), bytes(1000))
            written.update(range(start, start + 1000))
    journal = tmp_path / ".target.part.journal"
    content = journal.read_bytes()
    for stop in range(content.index(b"\n") + 1, len(content)):
        journal.write_bytes(content[:stop])
        with PartFile(target, remote) as part:
            missing = {i for start, end in part.missing(700) for i in range(start, end)}
            assert missing >= set(range(10_000)) - written
            part.write(9999, b"x")  # what follows is on a line of its own
        with PartFile(target, remote) as part:
            after = {i for start, end in part.missing(10**6) for i in range(start, end)}
        assert after == missing - {9999}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"null\n0 5\n"])
def test_a_journal_that_says_nothing_begins_anew(tmp_path, content):
    remote = RemoteFile("key", 10, "etag", has_md5=True)
    with PartFile(tmp_path / "target", remote) as part:
        part.write(0, b"12345")
    (tmp_path / ".target.part.journal").write_bytes(content)
    with PartFile(tmp_path / "target", remote) as part:
        assert list(part.missing(100)) == [(0, 10)]


def test_a_closed_part_writes_no_more(tmp_path):
    remote = RemoteFile("key", 10, "etag", has_md5=False)
    part = PartFile(tmp_path / "target", remote)
    part.close()
    assert not part.write(0, b"12345")
    assert part.path.read_bytes() == bytes(10)


@pytest.mark.parametrize(
    ("has_md5", "sha256", "goes_on"),
    [(True, None, True), (False, "0" * 64, True), (False, None, False)],
)
def test_what_no_checksum_would_prove_begins_anew(tmp_path, has_md5, sha256, goes_on):
    # After a power cut the journal may have what the file has not.
    remote = RemoteFile("key", 10, "etag", has_md5, sha256=sha256)
    with PartFile(tmp_path / "target", remote) as part:
        part.write(0, b"12345")
    assert count_done(tmp_path / "target", remote) == (5 if goes_on else 0)
    with PartFile(tmp_path / "target", remote) as part:
        assert list(part.missing(100)) == ([(5, 10)] if goes_on else [(0, 10)])


def test_a_part_goes_before_its_journal(tmp_path, monkeypatch):
    """Where this stops in between nothing large is left, and nothing that would be believed."""
    removed = []
    monkeypatch.setattr("berg.downloads.parts.remove_file", lambda path: removed.append(path.name))
    discard_part(tmp_path / "target")
    assert removed == [".target.part", ".target.part.journal"]
