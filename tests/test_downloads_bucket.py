"""What a server says of its objects, and answers that are none."""

from __future__ import annotations

import base64
import hashlib
from io import BytesIO
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ProxyConnectionError
from urllib3 import HTTPResponse

from berg.downloads.bucket import Bucket
from berg.downloads.checksums import FileHashes
from berg.errors import DownloadError, InvalidParameterError
from conftest import REAL_CARD
from downloads_fixture import (
    OBJECTS,
    QUICK,
    s3,
)
from s3_fixture import METADATA, WEIGHTS

__all__ = ["s3"]  # a fixture

pytestmark = pytest.mark.enable_socket  # of this machine alone


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


@pytest.mark.parametrize("status", [403, 404])
def test_a_refusal_does_not_switch_off_the_comparison(status):
    bucket = Bucket("bucket", "us-west-2", "http://mirror", QUICK)

    def answer(request, **_):
        told = {"ETag": f'"{"0" * 32}-3"', "Content-Length": "10"}
        known = "partNumber" not in request.url
        return AWSResponse(request.url, 200 if known else status, told, HTTPResponse(BytesIO()))

    bucket._client.meta.events.register("before-send.s3", answer)
    with pytest.raises(DownloadError, match=f"HTTP {status}"):
        bucket.find("key")


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
