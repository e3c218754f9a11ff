"""An HTTP proxy on this machine that spoils answers on purpose, and counts what it sends."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

PIECE = 8192
READ_SECONDS = 0.05  # in which a client reads what was sent
HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "server", "date"}


@dataclass(frozen=True)
class Fault:
    """What happens to an answer.

    kind: ``drop`` (reset after some bytes), ``truncate`` (closed after some bytes), ``short``
    (fewer bytes, which the headers confirm), ``flip`` (one bit), ``stall`` (silence after some
    bytes), ``slow``, or an HTTP status.
    """

    kind: str
    at: float = 0.5  # which part of the body comes before it


@dataclass
class Request:
    method: str
    path: str
    range: str | None
    n_sent: int = 0  # bytes of the body
    fault: Fault | None = None


@dataclass
class FaultyProxy:
    """Serve what `upstream` serves, but for the faults that `choose` gives.

    `bytes_per_second` is the rate of each connection; None for no limit.
    """

    upstream: str
    choose: Callable[[Request], Fault | None] = lambda request: None
    bytes_per_second: float | None = None
    stall_seconds: float = 1.0
    requests: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        proxy = self

        class Handler(_Handler):
            pass

        Handler.proxy = proxy
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda request, address: None  # a client that went away
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.socket.close()

    @property
    def n_faults(self) -> int:
        return sum(request.fault is not None for request in self.requests)

    def sent(self, name: str) -> int:
        """Bytes sent of the objects whose path ends so."""
        return sum(
            request.n_sent
            for request in self.requests
            if request.method == "GET" and request.path.endswith(name)
        )


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultyProxy

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def _answer(self) -> None:
        proxy = self.proxy
        request = Request(self.command, urlsplit(self.path).path, self.headers.get("Range"))
        with proxy.lock:
            request.fault = fault = proxy.choose(request)
            proxy.requests.append(request)
        if fault and fault.kind.isdigit():
            self.send_response(int(fault.kind))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        status, headers, body = self._ask()
        if request.method == "HEAD" and fault:
            self._reset()
            return
        stop = len(body)
        if fault and fault.kind in ("drop", "truncate", "short", "stall"):
            stop = int(fault.at * len(body))
        if fault and fault.kind == "flip" and body:
            spoilt = bytearray(body)
            spoilt[int(fault.at * (len(body) - 1))] ^= 1
            body = bytes(spoilt)
        if fault and fault.kind == "short":
            body = body[:stop]
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        length = dict(headers).get("Content-Length") if request.method == "HEAD" else len(body)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self._send(request, body[:stop])
        if fault and fault.kind == "stall":
            time.sleep(proxy.stall_seconds)
        if fault and fault.kind == "drop":
            # A reset throws away what has arrived and was not read yet.
            time.sleep(READ_SECONDS)
            self._reset()
        elif fault and fault.kind in ("truncate", "stall"):
            self.close_connection = True

    def _ask(self) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection(urlsplit(self.proxy.upstream).netloc)
        try:
            headers = {name: value for name, value in self.headers.items() if name != "Connection"}
            upstream.request(self.command, self.path, headers=headers)
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            upstream.close()

    def _send(self, request: Request, body: bytes) -> None:
        rate = self.proxy.bytes_per_second
        if request.fault and request.fault.kind == "slow":
            rate = 1e6
        for start in range(0, len(body), PIECE):
            piece = body[start : start + PIECE]
            self.wfile.write(piece)
            request.n_sent += len(piece)
            if rate:
                time.sleep(len(piece) / rate)

    def _reset(self) -> None:
        self.wfile.flush()
        # No time to linger: the connection is reset, and not closed in order.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
