"""A bucket of small random objects, on an S3 server of this machine in a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from botocore.session import Session

from conftest import REAL_CARD

NAME, REGION = REAL_CARD.facts["bucket"], REAL_CARD.facts["region"]
FILES = REAL_CARD.files(Path())
WEIGHTS, METADATA = (path.as_posix() for path in (FILES.weights_npy(1), FILES.metadata(1)))
PLOTS = FILES.accuracy_plots.as_posix()
UPLOADED_PART_BYTES = 500_000
START_SECONDS = 60


@dataclass(frozen=True)
class S3:
    """An S3 server with a bucket."""

    url: str
    client: Any
    content: dict[str, bytes] = field(default_factory=dict)

    def reset(self, objects: Mapping[str, bytes]) -> None:
        """Have these objects and no others; upload those only that are not there."""
        self.delete(*(self.content.keys() - objects.keys()))
        self.put({key: each for key, each in objects.items() if self.content.get(key) != each})

    def put(self, objects: Mapping[str, bytes]) -> None:
        """Upload; what is larger than a part goes in parts, as the AWS CLI does it."""
        self.content.update(objects)
        for key, content in objects.items():
            where = {"Bucket": NAME, "Key": key}
            if len(content) <= UPLOADED_PART_BYTES:
                self.client.put_object(**where, Body=content, ACL="public-read")
                continue
            upload = self.client.create_multipart_upload(**where, ACL="public-read")
            where["UploadId"] = upload["UploadId"]
            parts = []
            for number, start in enumerate(range(0, len(content), UPLOADED_PART_BYTES), 1):
                part = content[start : start + UPLOADED_PART_BYTES]
                sent = self.client.upload_part(**where, PartNumber=number, Body=part)
                parts.append({"PartNumber": number, "ETag": sent["ETag"]})
            self.client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})

    def delete(self, *keys: str) -> None:
        for key in keys:
            del self.content[key]
            self.client.delete_object(Bucket=NAME, Key=key)


def some_objects() -> dict[str, bytes]:
    """Two subjects' weights (in three parts, and whole), metadata and plots."""
    rng = np.random.default_rng(5)
    sizes = {
        WEIGHTS: 1_200_007,
        METADATA: 200_003,
        FILES.weights_npy(2).as_posix(): 300_000,
        FILES.metadata(2).as_posix(): 1000,
        f"{PLOTS}/r2_subject-01.png": 5000,
        f"{PLOTS}/r2_subject-02.png": 5000,
        f"{PLOTS}/average.svg": 3000,
    }
    return {key: rng.bytes(n_bytes) for key, n_bytes in sizes.items()}


@contextmanager
def serve_s3(log: Path) -> Iterator[S3]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "--port", str(port)]
    # Parts of an upload may be small, as nowhere else.
    environment = {**os.environ, "S3_UPLOAD_PART_MIN_SIZE": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment)
    try:
        client = Session().create_client(
            "s3",
            region_name=REGION,
            endpoint_url=url,
            aws_access_key_id="anybody",
            aws_secret_access_key="anything",
        )
        begun = time.monotonic()
        while not _answers(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < begun + START_SECONDS
            time.sleep(0.05)
        client.create_bucket(
            Bucket=NAME, ACL="public-read", CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        yield S3(url, client)
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    with socket.socket() as each:
        return each.connect_ex(("127.0.0.1", port)) == 0
