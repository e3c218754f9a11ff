"""A 540 MB download beside the AWS CLI's, kills and faults: `python -m benchmarks.downloading`.

Both clients fetch from the same servers of this machine, in turn: moto, a complete S3 server that
is itself slow, and a lean one that serves ranges from disk, so that the client's own cost shows.
The AWS CLI is taken from the PATH or from `--aws`; without it only our times are given.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.table import Row, print_machine, show, take_turns
from berg.catalog import DEFAULT_MODEL_ID, find_card
from berg.downloads import find_interrupted
from berg.downloads.checksums import hash_file

ROUNDS = 3
N_BYTES = 540_000_000
UPLOADED_PART_BYTES = 8 * 2**20
N_KILLS = 20
CARD = find_card(DEFAULT_MODEL_ID)
BUCKET, REGION = CARD.facts["bucket"], CARD.facts["region"]
KEY = CARD.files(Path()).weights_npy(1).as_posix()
OURS = """
import sys
from pathlib import Path
from berg.catalog import DEFAULT_MODEL_ID
from berg.downloads import carry_out, plan_download
url, berg_dir = sys.argv[1:]
plan = plan_download(
    DEFAULT_MODEL_ID, 1, berg_dir, endpoint_url=url, kinds=["weights"], show_progress=False
)
carry_out(plan, show_progress=False)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--aws", default=shutil.which("aws"), help="the AWS CLI")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    with TemporaryDirectory(prefix="berg-downloading-") as folder:
        scratch = Path(folder)
        source = scratch / "object"
        with source.open("wb") as file:
            for _ in range(N_BYTES // 10**6):
                file.write(os.urandom(10**6))
        sha256 = hash_file(source).sha256
        print_machine(arguments.rounds)
        print("| what | ours | AWS CLI | figure | target |")
        print("|---|---|---|---|---|")
        with moto(source, scratch) as url:
            show(speed("moto", url, scratch, sha256, arguments.aws, arguments.rounds))
        with lean(source) as (url, count_sent):
            show(speed("a lean server", url, scratch, sha256, arguments.aws, arguments.rounds))
            show(kills(url, count_sent, scratch, sha256))
    show(faults())


@contextmanager
def moto(source: Path, scratch: Path) -> Iterator[str]:
    """moto with the object, uploaded as the AWS CLI does it, in a process of its own."""
    from botocore.session import Session

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with (scratch / "moto.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "--port", str(port)], stdout=log, stderr=log
        )
    try:
        while True:
            with socket.socket() as each:
                if each.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        client = Session().create_client(
            "s3",
            region_name=REGION,
            endpoint_url=url,
            aws_access_key_id="anybody",
            aws_secret_access_key="anything",
        )
        client.create_bucket(
            Bucket=BUCKET,
            ACL="public-read",
            CreateBucketConfiguration={"LocationConstraint": REGION},
        )
        where = {"Bucket": BUCKET, "Key": KEY}
        where["UploadId"] = client.create_multipart_upload(**where, ACL="public-read")["UploadId"]
        parts = []
        with source.open("rb") as file:
            for number, body in enumerate(iter(lambda: file.read(UPLOADED_PART_BYTES), b""), 1):
                sent = client.upload_part(**where, PartNumber=number, Body=body)
                parts.append({"PartNumber": number, "ETag": sent["ETag"]})
        client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        yield url
    finally:
        process.kill()
        process.wait()


@contextmanager
def lean(source: Path) -> Iterator[tuple[str, Callable[[], int]]]:
    """The lean server in a process of its own, and a function that asks what it has sent."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.range_server", source, KEY, str(UPLOADED_PART_BYTES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("there are no pipes")
    asking, answering = process.stdin, process.stdout

    def count_sent() -> int:
        asking.write("\n")
        asking.flush()
        return int(answering.readline())

    try:
        yield answering.readline().strip(), count_sent
    finally:
        process.kill()
        process.wait()


def speed(name: str, url: str, scratch: Path, sha256: str, aws: str | None, rounds: int) -> Row:
    """Both clients from the first command to the finished file, after removing an older one."""
    berg_dir, other = scratch / "berg_dir", scratch / "aws_cli"

    def ours() -> None:
        shutil.rmtree(berg_dir, ignore_errors=True)
        subprocess.run([sys.executable, "-c", OURS, url, berg_dir], check=True)

    def theirs() -> None:
        other.unlink(missing_ok=True)
        command = [str(aws), "s3", "cp", f"s3://{BUCKET}/{KEY}", str(other)]
        options = ["--no-sign-request", "--only-show-errors", "--endpoint-url", url]
        environment = {**os.environ, "AWS_DEFAULT_REGION": REGION, "AWS_CONFIG_FILE": os.devnull}
        subprocess.run([*command, *options], check=True, env=environment)

    seconds = take_turns(*([ours, theirs] if aws else [ours]), rounds=rounds)
    for path in (berg_dir / KEY, *([other] if aws else [])):
        if hash_file(path).sha256 != sha256:
            raise RuntimeError(f"{path} is not what was served")
    rates = [N_BYTES / 1e6 / each for each in seconds]
    return (
        f"540 MB from {name}, ours verified and synced to the disk",
        f"{seconds[0]:.1f} s, {rates[0]:.0f} MB/s",
        f"{seconds[1]:.1f} s, {rates[1]:.0f} MB/s" if aws else "not installed",
        f"{seconds[1] / seconds[0]:.2f}× its speed" if aws else "",
        "≥ 0.7×",
    )


def kills(url: str, count_sent: Callable[[], int], scratch: Path, sha256: str) -> Row:
    """SIGKILL at random moments of downloads; what was sent and not kept is what a kill costs."""
    rng = random.Random(1)
    berg_dir = scratch / "killed"
    lost: list[int] = []
    n_downloads = 0
    while len(lost) < N_KILLS or n_downloads == 0:
        kept, sent = _n_kept(berg_dir), count_sent()
        process = subprocess.Popen([sys.executable, "-c", OURS, url, berg_dir])
        while process.poll() is None and count_sent() == sent:
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.4))
        if len(lost) < N_KILLS:
            process.kill()
        if process.wait() == -signal.SIGKILL:
            lost.append(count_sent() - sent - (_n_kept(berg_dir) - kept))
            if (berg_dir / KEY).exists() and hash_file(berg_dir / KEY).sha256 != sha256:
                raise RuntimeError("a file under its final name is not whole")
        if (berg_dir / KEY).exists():
            if hash_file(berg_dir / KEY).sha256 != sha256:
                raise RuntimeError("the bytes are wrong")
            n_downloads += 1
            shutil.rmtree(berg_dir)
    return (
        f"{N_KILLS} SIGKILLs at random moments of {n_downloads} downloads of 540 MB",
        "right bytes each time",
        "",
        f"a kill costs {sum(lost) / len(lost) / 1e6:.1f} MB, at most {max(lost) / 1e6:.1f} MB",
        "≤ 64 MB",
    )


def _n_kept(berg_dir: Path) -> int:
    """Bytes that a next run will not fetch again."""
    if (berg_dir / KEY).exists():
        return N_BYTES
    return sum(each.n_bytes for each in find_interrupted(berg_dir))


def faults() -> Row:
    """The test that injects two hundred faults, and what it counted."""
    test = ["tests/test_downloads_interrupted.py", "-k", "two_hundred_faults"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", *test],
        capture_output=True,
        text=True,
        check=False,
    )
    found = re.search(r"(\d+ faults): (.*)", done.stdout)
    if done.returncode or not found:
        raise RuntimeError(done.stdout)
    return (
        f"{found[1]} through `berg download` (drops, truncation, flipped bits, 403, 404, 5xx, …)",
        found[2],
        "",
        "no wrong byte under a final name, no traceback",
        "0, 0",
    )


if __name__ == "__main__":
    main()
