"""Checksums, and files on their way."""

from __future__ import annotations

import base64
import hashlib
import shutil
from io import BytesIO
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ProxyConnectionError
from urllib3 import HTTPResponse

from berg.downloads.bucket import Bucket
from berg.downloads.checksums import FileHashes, RemoteFile, hash_file
from berg.downloads.parts import PartFile, count_done, discard_part
from berg.errors import DownloadError, FilesDifferError, InvalidParameterError
from conftest import REAL_CARD
from downloads_fixture import (
    OBJECTS,
    OF_SUBJECT_1,
    QUICK,
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


def test_the_bucket_tells_its_checksums(s3):
    bucket = Bucket(REAL_CARD.facts["bucket"], "us-west-2", s3.url, QUICK)
    weights, metadata = bucket.find(WEIGHTS), bucket.find(METADATA)
    assert weights.etag.endswith("-3")
    assert weights.uploaded_part_bytes == 500_000
    assert metadata.etag == hashlib.md5(OBJECTS[METADATA]).hexdigest()
    assert weights.has_md5
    assert metadata.has_md5


def test_of_aws_everybody_may_ask_without_an_account(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody's")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    bucket = Bucket(REAL_CARD.facts["bucket"], REAL_CARD.facts["region"], None, QUICK)
    asked = []

    def answer(request, **_):
        asked.append(request)
        headers = {"ETag": f'"{"0" * 32}"', "Content-Length": "5"}
        return AWSResponse(request.url, 200, headers, HTTPResponse(BytesIO()))

    bucket._client.meta.events.register("before-send.s3", answer)
    assert bucket.find(METADATA).n_bytes == 5
    (request,) = asked
    host = "brain-encoding-response-generator.s3.us-west-2.amazonaws.com"
    assert request.url == f"https://{host}/{METADATA}"
    assert "Authorization" not in request.headers


@pytest.mark.parametrize(
    ("headers", "has_md5"),
    [
        ({}, True),
        ({"x-amz-server-side-encryption": "AES256"}, True),
        ({"x-amz-server-side-encryption": "aws:kms"}, False),
        ({"ETag": '"no-md5"'}, False),
        ({"ETag": f'"{"0" * 32}-2"'}, False),  # two parts of 5 bytes are not 5 bytes
        ({"ETag": f'"{"0" * 32}-1"'}, True),
        ({"ETag": f'W/"{"0" * 32}"'}, True),
    ],
)
def test_etags_that_are_no_md5_are_known(headers, has_md5):
    bucket = Bucket("bucket", "us-west-2", "http://mirror", QUICK)
    told = {"ETag": f'"{"0" * 32}"', "Content-Length": "5", **headers}
    bucket._client.meta.events.register(
        "before-send.s3",
        lambda request, **_: AWSResponse(request.url, 200, told, HTTPResponse(BytesIO())),
    )
    assert bucket.find("key").has_md5 is has_md5


def serving(bucket: Bucket, headers: dict[str, str], body: bytes = b"") -> list:
    """Have a bucket answer so; return what it is asked."""
    asked = []

    def answer(request, **_):
        asked.append(request)
        raw = HTTPResponse(BytesIO(body * (request.method == "GET")), preload_content=False)
        return AWSResponse(request.url, 200, headers, raw)

    bucket._client.meta.events.register("before-send.s3", answer)
    return asked


def test_a_weak_etag_is_asked_for_as_it_was_given():
    bucket = Bucket("bucket", "us-west-2", "http://mirror", QUICK)
    etag = f'W/"{hashlib.md5(b"12345").hexdigest()}"'
    told = {"ETag": etag, "Content-Length": "5", "Content-Range": "bytes 0-4/5"}
    # And a server that sends more than it was asked for does not write over what follows.
    asked = serving(bucket, told, b"12345 and more")
    remote = bucket.find("key")
    assert b"".join(bucket.read(remote, 0, 5)) == b"12345"
    assert asked[-1].headers["If-Match"].decode() == etag
    assert FileHashes(5, "", hashlib.md5(b"12345").hexdigest()).difference(remote) is None


def test_a_checksum_of_parts_checksums_is_not_one_of_the_whole():
    bucket = Bucket("bucket", "us-west-2", "http://mirror", QUICK)
    sha256 = base64.b64encode(hashlib.sha256(b"").digest()).decode()
    told = {"ETag": f'"{"0" * 32}"', "Content-Length": "5"}
    serving(bucket, {**told, "x-amz-checksum-sha256": f"{sha256}-4"})
    assert bucket.find("key").sha256 is None
    bucket = Bucket("bucket", "us-west-2", "http://mirror", QUICK)
    serving(bucket, {**told, "x-amz-checksum-sha256": sha256})
    assert bucket.find("key").sha256 == hashlib.sha256(b"").hexdigest()


@pytest.mark.parametrize(
    ("parts", "size"),
    [
        ({1: 4, 3: 2}, 4),
        ({1: 4, 3: 4}, None),  # the one between them is smaller
        ({1: 4}, None),  # the server does not say
        ({}, None),
    ],
)
def test_parts_of_one_size_are_told_from_others(parts, size):
    bucket = Bucket("bucket", "us-west-2", "http://mirror", QUICK)

    def answer(request, **_):
        told = {"ETag": f'"{"0" * 32}-3"', "Content-Length": "10"}
        number = parse_qs(urlsplit(request.url).query).get("partNumber")
        status = 200
        if number is not None:
            told["Content-Length"] = str(parts.get(int(number[0]), 0))
            status = 206 if int(number[0]) in parts else 501
        return AWSResponse(request.url, status, told, HTTPResponse(BytesIO()))

    bucket._client.meta.events.register("before-send.s3", answer)
    remote = bucket.find("key")
    assert (remote.uploaded_part_bytes, remote.has_md5) == (size, size is not None)


@pytest.mark.parametrize(
    ("variable", "value"),
    [("AWS_USE_FIPS_ENDPOINT", "true"), ("AWS_USE_DUALSTACK_ENDPOINT", "true")],
)
def test_the_environment_does_not_choose_another_host(monkeypatch, variable, value):
    plain = Bucket("bucket", "us-west-2", None, QUICK).endpoint_url
    monkeypatch.setenv(variable, value)
    assert Bucket("bucket", "us-west-2", None, QUICK).endpoint_url == plain


def test_a_setting_that_the_client_does_not_know_is_said(monkeypatch):
    monkeypatch.setenv("AWS_DEFAULTS_MODE", "bogus")
    with pytest.raises(InvalidParameterError, match=r"cannot be set up\n.*bogus"):
        Bucket("bucket", "us-west-2", None, QUICK)


def test_a_proxy_that_fails_later_is_asked_again():
    bucket = Bucket("bucket", "us-west-2", "http://mirror", QUICK)
    answers = [True, False, True]

    def answer(request, **_):
        if not answers.pop(0):
            raise ProxyConnectionError(proxy_url="http://proxy")
        told = {"ETag": f'"{"0" * 32}"', "Content-Length": "5"}
        return AWSResponse(request.url, 200, told, HTTPResponse(BytesIO()))

    bucket._client.meta.events.register("before-send.s3", answer)
    assert bucket.find("key") == bucket.find("key")
    assert answers == []
    bucket = Bucket("bucket", "us-west-2", "http://mirror", QUICK)
    bucket._client.meta.events.register("before-send.s3", answer)
    answers += [False, True]
    with pytest.raises(DownloadError, match="no safe way"):
        bucket.find("key")
    assert answers == [True]  # a proxy that is set up wrongly is not


def a_page(*keys: str, token: str = "") -> bytes:
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" * bool(token)
    entries = "".join(f"<Contents>{key}</Contents>" for key in keys)
    return (
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><KeyCount>1</KeyCount>'
        f"<IsTruncated>true</IsTruncated>{more}{entries}</ListBucketResult>"
    ).encode()


@pytest.mark.parametrize("token", ["", "the same for ever"])
def test_a_listing_that_does_not_end_is_no_listing(token):
    bucket = Bucket("bucket", "us-west-2", "http://mirror", QUICK)
    asked = serving(bucket, {}, a_page("<Key>a</Key>", "", token=token))
    with pytest.raises(DownloadError, match="a listing that is not whole"):
        bucket.list_keys("prefix")
    assert len(asked) <= 2


def test_a_sha256_of_the_server_is_compared(s3):
    content = b"with a checksum"
    s3.client.put_object(
        Bucket=REAL_CARD.facts["bucket"],
        Key="a",
        Body=content,
        ACL="public-read",
        ChecksumAlgorithm="SHA256",
    )
    remote = Bucket(REAL_CARD.facts["bucket"], "us-west-2", s3.url, QUICK).find("a")
    assert remote.sha256 == hashlib.sha256(content).hexdigest()
    hashes = FileHashes(len(content), "0" * 64, remote.etag)
    assert "SHA-256" in (hashes.difference(remote) or "")


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
