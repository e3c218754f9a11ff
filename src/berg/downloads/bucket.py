"""A public bucket: what is in it, and its bytes. The only module that knows the S3 client.

The client is botocore, the engine of boto3 and of the AWS CLI. Requests are anonymous: nobody
needs an account, and what a machine has of profiles, keys and endpoints is left alone.
"""

from __future__ import annotations

import base64
import logging
import re
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import urllib3.exceptions
from botocore import UNSIGNED, exceptions
from botocore.config import Config
from botocore.parsers import ResponseParserError
from botocore.session import Session

from berg.downloads.checksums import RemoteFile
from berg.downloads.pace import Pace
from berg.errors import (
    DownloadError,
    InvalidParameterError,
    RemoteFileNotFoundError,
)
from berg.resources import check_online

logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")
_MD5_ETAG = re.compile(r"[0-9a-f]{32}(?:-(\d+))?")
_FOR_NOW = {429, 500, 502, 503, 504}  # HTTP statuses that may be another one next time
_FOR_NOW_CODES = {"RequestTimeout", "SlowDown", "InternalError", "ServiceUnavailable"}
# Neither profiles nor files of the user's own: an AWS_PROFILE that is gone would be an error.
_SETTINGS = ("profile", "config_file", "credentials_file")
_NO_SETTINGS = dict.fromkeys(_SETTINGS, (None, None, None, None))


class TransientError(DownloadError):
    """It may go better when tried again."""


class ReplacedError(DownloadError):
    """The object is another one than when the download began."""


class NotS3Error(DownloadError):
    """The answer is none that S3 gives to such a question."""


class Bucket:
    """A bucket that everybody may read.

    Parameters
    ----------
    name, region : str
    endpoint_url : str, optional
        Of a mirror that speaks S3; AWS by default. A user and a password in it are left out: they
        would not be sent, but shown and recorded.
    pace : Pace

    Raises
    ------
    OfflineError
        If the environment variable ``BERG_OFFLINE`` is set.
    InvalidParameterError
        If `endpoint_url` is not an address, or the environment sets up the S3 client wrongly.
    """

    def __init__(self, name: str, region: str, endpoint_url: str | None, pace: Pace) -> None:
        check_online("unset BERG_OFFLINE to download")
        self.name, self.region, self.pace = name, region, pace
        config = Config(
            signature_version=UNSIGNED,
            connect_timeout=pace.connect_seconds,
            read_timeout=pace.read_seconds,
            # Tried again by us alone: only we know whether a part has come further meanwhile.
            retries={"mode": "standard", "total_max_attempts": 1},
            max_pool_connections=pace.n_threads + 1,
            s3={"addressing_style": "path" if endpoint_url else "virtual"},
            ignore_configured_endpoint_urls=True,
            use_fips_endpoint=False,
            use_dualstack_endpoint=False,
            response_checksum_validation="when_required",  # of parts it cannot be
        )
        self._has_answered = False
        try:
            endpoint_url = endpoint_url and _without_user(endpoint_url)
            self._client: Any = Session(session_vars=_NO_SETTINGS).create_client(
                "s3", region_name=region, endpoint_url=endpoint_url, config=config
            )
        except ValueError as err:
            raise InvalidParameterError(
                "the endpoint is not an address",
                got=repr(endpoint_url),
                accepted="a URL with http:// or https://, for example https://mirror.example.org",
                do="correct --endpoint-url, or $BERG_ENDPOINT_URL",
            ) from err
        except exceptions.BotoCoreError as err:
            raise InvalidParameterError(
                "the S3 client cannot be set up",
                got=str(err),
                accepted="variables AWS_... of the environment that it knows",
                do="correct the variable, or unset it",
            ) from err
        self.endpoint_url: str = self._client.meta.endpoint_url

    def url(self, key: str) -> str:
        """Name an object."""
        return f"s3://{self.name}/{key}"

    def find(self, key: str) -> RemoteFile:
        """Ask for an object's size and checksums.

        Raises
        ------
        RemoteFileNotFoundError
            If there is none.
        DownloadError
            If it may not be read, or the server does not answer as S3 does.
        """
        head = self._patiently(
            key,
            lambda: self._client.head_object(Bucket=self.name, Key=key, ChecksumMode="ENABLED"),
        )
        if "ETag" not in head or "ContentLength" not in head:
            raise self._not_s3("an answer without the object's size and ETag")
        is_weak = head["ETag"].startswith("W/")
        etag, n_bytes = head["ETag"].removeprefix("W/").strip('"'), head["ContentLength"]
        found = _MD5_ETAG.fullmatch(etag)
        # Encrypted with other keys than S3's own, an object's ETag is no MD5.
        encrypted = head.get("ServerSideEncryption", "").startswith("aws:kms")
        has_md5 = found is not None and not (encrypted or head.get("SSECustomerAlgorithm"))
        part_bytes = None
        if has_md5 and found and found[1]:
            part_bytes = self._uploaded_part_bytes(key, n_bytes, int(found[1]))
            has_md5 = part_bytes is not None
        sha256, said = None, head.get("ChecksumSHA256", "")
        # One of parts' checksums, which ends with their number, is none of the whole.
        is_whole = head.get("ChecksumType", "FULL_OBJECT") == "FULL_OBJECT" and "-" not in said
        if said and is_whole:
            with self._translated(key):
                sha256 = base64.b64decode(said, validate=True).hex()
        return RemoteFile(key, n_bytes, etag, has_md5, part_bytes, sha256, is_weak)

    def _uploaded_part_bytes(self, key: str, n_bytes: int, n_parts: int) -> int | None:
        """Return the size of the parts that an object was uploaded in, if it is one for all.

        None as well where the server does not know the question: then the ETag cannot be computed.
        One that refuses the object now, having told of it before, is not taken for such a server:
        what is not compared may be wrong.
        """

        def ask(number: int) -> int:
            part = self._patiently(
                key,
                lambda: self._client.head_object(Bucket=self.name, Key=key, PartNumber=number),
            )
            return int(part.get("ContentLength", 0))

        try:
            size, last = ask(1), ask(n_parts)
        except NotS3Error as err:
            logger.info("%s: the size of its parts is unknown: %s", self.url(key), err)
            return None
        is_one = size > 0 and 0 < last <= size and (n_parts - 1) * size + last == n_bytes
        return size if is_one else None

    def list_keys(self, prefix: str) -> list[str]:
        """List the objects whose keys begin in one way.

        Raises
        ------
        DownloadError
            As `find`.
        """
        keys: list[str] = []
        more: dict[str, str] = {}
        tokens: set[str] = set()
        while True:
            page = self._patiently(
                prefix,
                lambda: self._client.list_objects_v2(Bucket=self.name, Prefix=prefix, **more),  # noqa: B023
            )
            if "KeyCount" not in page and "Contents" not in page:
                raise self._not_s3("no listing")
            keys += [entry["Key"] for entry in page.get("Contents", []) if "Key" in entry]
            if not page.get("IsTruncated"):
                return keys
            token = page.get("NextContinuationToken", "")
            if not token or token in tokens:
                raise self._not_s3("a listing that is not whole, and does not go on")
            tokens.add(token)
            more = {"ContinuationToken": token}

    def read(self, file: RemoteFile, start: int, stop: int) -> Generator[bytes, None, None]:
        """Read a range of an object's bytes, with one request.

        Parameters
        ----------
        file : RemoteFile
        start, stop : int

        Yields
        ------
        bytes

        Raises
        ------
        TransientError
            If the connection fails, or ends too early.
        ReplacedError
            If the object is another one now.
        RemoteFileNotFoundError, DownloadError
            As `find`.
        """
        with self._translated(file.key):
            answer = self._client.get_object(
                Bucket=self.name,
                Key=file.key,
                Range=f"bytes={start}-{stop - 1}",
                IfMatch=f'{"W/" * file.is_weak}"{file.etag}"',
            )
            with closing(answer["Body"]) as body:
                said = answer.get("ContentRange")
                if said != f"bytes {start}-{stop - 1}/{file.n_bytes}":
                    raise self._not_s3(f"no range of bytes, or another one: {said}")
                while start < stop and (chunk := body.read(self.pace.chunk_bytes)):
                    chunk = chunk[: stop - start]  # whatever more a server sends
                    start += len(chunk)
                    yield chunk
            if start < stop:
                raise TransientError(
                    f"{self.url(file.key)} breaks off",
                    got=f"{stop - start:,} bytes less than asked for",
                    do="give the same command again: it goes on from where it was",
                )

    def _patiently(self, key: str, ask: Callable[[], _Answer]) -> _Answer:
        """Ask, and ask again where that may help."""
        waits = self.pace.waits()
        for _ in range(self.pace.first_attempts - 1):
            try:
                with self._translated(key):
                    return ask()
            except TransientError as err:
                wait = next(waits)
                logger.info("%s; asked again in %.1f s", err, wait)
                time.sleep(wait)
        with self._translated(key):
            return ask()

    @contextmanager
    def _translated(self, key: str) -> Iterator[None]:
        """Raise our errors in place of the client's."""
        try:
            yield
            self._has_answered = True
        except exceptions.ClientError as err:
            raise self._refused(key, err) from err
        except (exceptions.ProxyConnectionError, exceptions.SSLError) as err:
            # Set up wrongly, it fails the first time; later it may be better the next time.
            kind = TransientError if self._has_answered else DownloadError
            raise kind(
                f"there is no safe way to {self.endpoint_url}",
                got=str(err),
                accepted="a proxy that answers, and a certificate that this machine trusts",
                do="check HTTPS_PROXY; for an own authority, set AWS_CA_BUNDLE to its file",
            ) from err
        except (
            exceptions.HTTPClientError,
            exceptions.ConnectionError,
            exceptions.IncompleteReadError,
            urllib3.exceptions.HTTPError,
            ConnectionError,
            TimeoutError,
        ) as err:
            raise TransientError(
                f"the connection to {self.endpoint_url} fails",
                got=str(err),
                accepted="a network, and a server that answers",
                do="check the network, then give the same command again: it goes on from where "
                "it was",
            ) from err
        except (exceptions.BotoCoreError, ResponseParserError, KeyError, ValueError) as err:
            raise self._not_s3(str(err)) from err

    def _refused(self, key: str, err: exceptions.ClientError) -> DownloadError:
        """Translate an answer that is an error."""
        status = err.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = str(err.response.get("Error", {}).get("Code", ""))
        said = "" if code in ("", str(status)) else f" ({code})"
        got = f"HTTP {status}{said} from {self.endpoint_url}"
        if status in _FOR_NOW or code in _FOR_NOW_CODES:
            return TransientError(
                f"{self.url(key)} cannot be had at the moment",
                got=got,
                do="wait, then give the same command again: it goes on from where it was",
            )
        if status == 412 or code == "InvalidRange":
            return ReplacedError(
                f"{self.url(key)} was replaced while it was downloaded",
                got=got,
                do="give the same command again",
            )
        if code == "NoSuchBucket":
            return DownloadError(
                f"there is no bucket {self.name}",
                got=got,
                do="check --endpoint-url, or $BERG_ENDPOINT_URL",
            )
        if status in (404, 410):
            return RemoteFileNotFoundError(
                f"{self.url(key)} does not exist",
                got=got,
                accepted="an object that is there; the bucket may have changed",
                do="look for it under another subject, or on another --endpoint-url",
            )
        if status in (401, 403):
            return DownloadError(
                f"{self.url(key)} may not be read",
                got=got,
                accepted="an object that everybody may read; S3 also says this of one that is gone",
                do="try later or another --endpoint-url; a proxy may be in the way",
            )
        return self._not_s3(got)

    def _not_s3(self, got: str) -> NotS3Error:
        return NotS3Error(
            f"{self.endpoint_url} does not answer as S3 does",
            got=got,
            accepted="AWS S3, or a mirror that speaks its protocol",
            do="check --endpoint-url, or $BERG_ENDPOINT_URL; a proxy may be in the way",
        )


def _without_user(url: str) -> str:
    """Take user and password out of an address.

    Examples
    --------
    >>> _without_user("http://me:secret@mirror:9000/s3")
    'http://mirror:9000/s3'
    """
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
