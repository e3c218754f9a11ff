"""A lean S3 server for one object: `python -m benchmarks.range_server FILE KEY PART_BYTES`.

It serves ranges of a file from disk with the headers that S3 gives, so that what a benchmark
measures is the client. It prints its address, and on each empty line from standard input the
number of bytes that it has sent.
"""

from __future__ import annotations

import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from berg.downloads.checksums import hash_file

LISTING = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    b"<KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>"
)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    path_on_disk: Path
    key: str
    etag: str
    part_bytes: int
    n_sent = 0
    lock = threading.Lock()

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        if not url.path.endswith(self.key):
            if "list-type" in url.query:
                self._send(200, {"Content-Type": "application/xml"}, LISTING)
            else:
                self._send(404, {}, b"")
            return
        size = self.path_on_disk.stat().st_size
        start, stop, status = 0, size, 200
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if found:
            start, stop, status = int(found[1]), min(int(found[2] or size - 1) + 1, size), 206
        if number := parse_qs(url.query).get("partNumber"):
            start = (int(number[0]) - 1) * self.part_bytes
            stop, status = min(start + self.part_bytes, size), 206
        headers = {
            "ETag": f'"{self.etag}"',
            "Accept-Ranges": "bytes",
            "Last-Modified": "Tue, 25 Nov 2025 00:00:00 GMT",
            "Content-Type": "application/octet-stream",
        }
        if status == 206:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        self._send(status, headers, None, start, stop)

    def _send(
        self,
        status: int,
        headers: dict[str, str],
        body: bytes | None,
        start: int = 0,
        stop: int = 0,
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(stop - start if body is None else len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if body is not None:
            self.wfile.write(body)
            return
        self.wfile.flush()
        with self.path_on_disk.open("rb") as file:
            while start < stop:
                piece = min(stop - start, 256 * 2**10)
                # What leaves the kernel without passing through Python costs no client its turn.
                n_sent = self.connection.sendfile(file, start, piece)
                start += n_sent
                with self.lock:
                    type(self).n_sent += n_sent


def main() -> None:
    path, key, part_bytes = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    Handler.path_on_disk, Handler.key, Handler.part_bytes = path, key, part_bytes
    Handler.etag = hash_file(path, part_bytes).etag
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda request, address: None  # a client that was killed
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    for _ in sys.stdin:
        print(Handler.n_sent, flush=True)


if __name__ == "__main__":
    main()
