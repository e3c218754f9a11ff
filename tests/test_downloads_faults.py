"""Servers, networks and disks that fail: every fault ends in a good file or a clear error."""

from __future__ import annotations

import errno
import os
import threading

import pytest

import berg
from berg import BERG, BERGError
from berg.downloads import find_interrupted
from berg.downloads.bucket import Bucket, ReplacedError
from berg.downloads.checksums import RemoteFile
from berg.downloads.parts import PartFile
from berg.errors import (
    ChecksumError,
    DownloadError,
    InvalidParameterError,
    ModelNotFoundError,
    OfflineError,
    RemoteFileNotFoundError,
    ResourceError,
)
from conftest import MODEL_ID
from downloads_fixture import (
    OBJECTS,
    OF_SUBJECT_1,
    QUICK,
    berg_dir,
    fetch,
    found,
    leftovers,
    proxy,
    s3,
    whole,
)
from faulty_proxy import Fault, Request
from s3_fixture import METADATA, WEIGHTS

__all__ = ["berg_dir", "proxy", "s3"]  # fixtures

pytestmark = pytest.mark.enable_socket  # of this machine alone


@pytest.mark.parametrize("kind", ["drop", "truncate", "short", "stall", "503", "429", "500"])
def test_connections_that_break_are_taken_up_again_inside_a_part(proxy, berg_dir, kind):
    # Every part of the weights breaks once, after 60 % of it.
    met: set[str] = set()

    def choose(request: Request) -> Fault | None:
        if request.range is None or request.range in met or not request.path.endswith(WEIGHTS):
            return None
        met.add(request.range)
        start, stop = map(int, request.range.removeprefix("bytes=").split("-"))
        return Fault(kind, 0.6) if stop - start > 90_000 else None

    proxy.choose = choose
    fetch(berg_dir)
    assert found(berg_dir) == whole(OF_SUBJECT_1)
    # What came before the connection broke is fetched again but for an unfinished chunk.
    again = proxy.sent(WEIGHTS) - len(OBJECTS[WEIGHTS])
    assert 0 <= again <= 12 * QUICK.chunk_bytes
    assert proxy.n_faults == 12


def test_a_connection_that_never_recovers_is_given_up_and_goes_on_later(proxy, berg_dir):
    proxy.choose = lambda request: (
        Fault("drop") if request.path.endswith(WEIGHTS) and request.range else None
    )
    proxy.choose = _after(2, proxy.choose)
    with pytest.raises(DownloadError, match="goes on from where it was"):
        fetch(berg_dir)
    (interrupted,) = find_interrupted(berg_dir)
    assert interrupted.target == berg_dir / WEIGHTS
    assert 0 < interrupted.n_bytes < len(OBJECTS[WEIGHTS])
    for thread in threading.enumerate():  # nobody waits for those that still ask when one gives up
        if thread.name.startswith("berg download"):
            thread.join()
    proxy.choose = lambda request: None
    proxy.requests.clear()
    told = fetch(berg_dir)
    assert "of it have come before" in "\n".join(told)
    assert proxy.sent(WEIGHTS) == len(OBJECTS[WEIGHTS]) - interrupted.n_bytes
    assert found(berg_dir) == whole(OF_SUBJECT_1)
    assert leftovers(berg_dir) == []


def _after(n_parts, choose):
    """The same faults after some parts of the weights."""
    seen: list[Request] = []

    def later(request: Request) -> Fault | None:
        seen.extend([request] * (request.range is not None))
        return choose(request) if len(seen) > n_parts else None

    return later


def test_bytes_that_change_on_the_way_are_fetched_once_more(proxy, berg_dir, caplog):
    flips = iter([Fault("flip")])
    proxy.choose = lambda request: next(flips, None) if request.range else None
    fetch(berg_dir)
    assert found(berg_dir) == whole(OF_SUBJECT_1)
    assert "it is fetched once more" in caplog.text


def test_bytes_that_always_change_end_in_an_error_and_no_file(proxy, berg_dir):
    proxy.choose = lambda request: Fault("flip") if request.range else None
    with pytest.raises(ChecksumError, match="twice"):
        fetch(berg_dir)
    assert found(berg_dir) == {}
    assert leftovers(berg_dir) == []
    # And what failed is not believed the next time.
    proxy.choose = lambda request: None
    fetch(berg_dir)
    assert found(berg_dir) == whole(OF_SUBJECT_1)


def test_an_object_that_is_replaced_meanwhile_is_fetched_anew(s3, proxy, berg_dir):
    newer = OBJECTS[WEIGHTS][::-1][:900_000]
    done: list[bool] = []

    def choose(request: Request) -> None:
        if request.range == "bytes=600000-699999" and not done:
            done.append(True)
            s3.put({WEIGHTS: newer})

    proxy.choose = choose
    fetch(berg_dir)
    assert found(berg_dir) == {**whole(OF_SUBJECT_1), WEIGHTS: newer}


def test_an_interrupted_download_of_an_older_object_is_thrown_away(s3, berg_dir):
    remote = RemoteFile(WEIGHTS, len(OBJECTS[WEIGHTS]), "older", has_md5=False)
    with PartFile(berg_dir / WEIGHTS, remote) as part:
        part.write(0, b"older bytes")
    fetch(berg_dir)
    assert found(berg_dir) == whole(OF_SUBJECT_1)


def test_an_object_that_is_always_replaced_is_an_error(s3, berg_dir, monkeypatch):
    real = Bucket.find

    def find(self, key) -> RemoteFile:
        remote = real(self, key)
        return RemoteFile(key, remote.n_bytes, "0" * 32, has_md5=True)

    monkeypatch.setattr(Bucket, "find", find)
    with pytest.raises(ReplacedError, match="was replaced while"):
        fetch(berg_dir)
    assert found(berg_dir) == {}


@pytest.mark.parametrize(
    ("status", "error", "match"),
    [
        ("403", DownloadError, "may not be read"),
        ("404", RemoteFileNotFoundError, "weights_subject-01.npy does not exist"),
        ("503", DownloadError, "cannot be had at the moment"),
        ("418", DownloadError, "does not answer as S3 does"),
    ],
)
def test_answers_that_are_errors(proxy, berg_dir, status, error, match):
    proxy.choose = lambda request: Fault(status) if request.path.endswith(WEIGHTS) else None
    with pytest.raises(error, match=match) as raised:
        fetch(berg_dir)
    assert isinstance(raised.value, BERGError | OSError)
    assert "HTTP" in str(raised.value)
    assert found(berg_dir) == {}


def test_an_object_that_is_gone_is_named(s3, berg_dir):
    s3.delete(METADATA)
    # Without the right to list a bucket, S3 says 403 of what is gone; moto says 404.
    with pytest.raises(DownloadError, match=METADATA):
        fetch(berg_dir)


def test_a_mirror_that_forbids_listings_gives_all_but_the_plots(proxy, berg_dir, caplog):
    proxy.choose = lambda request: (
        Fault("403") if request.path.rstrip("/").endswith("generator") else None
    )
    fetch(berg_dir)
    assert found(berg_dir) == whole({WEIGHTS, METADATA})
    assert "pictures of accuracy are left out" in caplog.text


def test_nobody_answers(s3, berg_dir):
    with pytest.raises(DownloadError, match=r"the connection to http://127\.0\.0\.1:9 fails"):
        fetch(berg_dir, endpoint_url="http://127.0.0.1:9")


def test_no_name_is_resolved(s3, berg_dir):
    with pytest.raises(DownloadError, match=r"the connection to .* fails"):
        fetch(berg_dir, endpoint_url="http://there-is-no-such-host.invalid")


def test_a_web_server_is_not_s3(s3, berg_dir):
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Pages(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "12")
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Pages, directory="/")) as web:
        Thread(target=web.serve_forever, args=(0.02,), daemon=True).start()
        with pytest.raises(DownloadError, match="does not answer as S3 does"):
            fetch(berg_dir, endpoint_url=f"http://127.0.0.1:{web.server_port}")
        web.shutdown()


@pytest.mark.parametrize("url", ["mirror", "ftp://mirror", "http://"])
def test_an_endpoint_that_is_no_address(berg_dir, url):
    with pytest.raises(BERGError, match="endpoint"):
        fetch(berg_dir, endpoint_url=url)


def test_offline_forbids_the_network(s3, berg_dir, monkeypatch):
    monkeypatch.setenv("BERG_OFFLINE", "1")
    with pytest.raises(OfflineError, match="BERG_OFFLINE"):
        fetch(berg_dir)
    with pytest.raises(OfflineError):
        BERG(berg_dir, download=True).get_model_metadata(MODEL_ID, 1)
    monkeypatch.setenv("BERG_OFFLINE", "0")
    fetch(berg_dir)


def test_settings_of_the_users_own_aws_are_left_alone(s3, berg_dir, monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_PROFILE", "gone")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "gone"))
    fetch(berg_dir)
    assert found(berg_dir) == whole(OF_SUBJECT_1)


def test_wrong_models_and_subjects_are_said_before_anything(berg_dir):
    with pytest.raises(ModelNotFoundError, match="Did you mean"):
        berg.download(MODEL_ID + "s", 1, berg_dir)
    for subjects in (9, [1, 0], "1"):
        with pytest.raises(InvalidParameterError):
            berg.download(MODEL_ID, subjects, berg_dir)
    with pytest.raises(InvalidParameterError, match="no subject"):
        berg.download(MODEL_ID, [], berg_dir)


def test_too_little_space_is_said_before_the_first_byte(proxy, berg_dir, monkeypatch):
    monkeypatch.setattr("berg.downloads.plan.free_disk_bytes", lambda path: 1_000_000)
    with pytest.raises(ResourceError, match="too little space"):
        fetch(berg_dir)
    assert not [request for request in proxy.requests if request.range]
    assert not berg_dir.exists()


def test_a_disk_that_fills_up_meanwhile(s3, berg_dir, monkeypatch):
    real, left = os.pwrite, [500_000]

    def pwrite(file: int, content: bytes, offset: int) -> int:
        if left[0] <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        # As a disk does it: the last write that fits is a short one.
        n_written = real(file, bytes(content)[: left[0]], offset)
        left[0] -= n_written
        return n_written

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", pwrite)
        with pytest.raises(ResourceError, match="No space left"):
            fetch(berg_dir)
    assert found(berg_dir) == {}
    fetch(berg_dir)
    assert found(berg_dir) == whole(OF_SUBJECT_1)


def test_a_place_that_is_no_folder(s3, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ResourceError, match="cannot be written"):
        fetch(tmp_path / "file")


def test_a_folder_of_the_files_name_is_in_the_way(s3, berg_dir):
    (berg_dir / WEIGHTS).mkdir(parents=True)
    with pytest.raises(ResourceError, match="cannot be read"):
        fetch(berg_dir)
