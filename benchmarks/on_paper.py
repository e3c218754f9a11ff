"""What runs take that nobody waits for here: from measured constants, as a table in Markdown."""

from __future__ import annotations

from dataclasses import dataclass

CHUNK_IMAGES = 1024
BYTES_A_SCORE_ROW = 250 * 4
BYTES_A_NAME = 12  # compressed, with the status and a share of the files' headers
BYTES_A_425_IMAGE = 425 * 425 * 3  # as HDF5 holds it
N_IMAGES = (10**6, 10**8)
N_WORKERS = (1, 10, 100)


@dataclass(frozen=True)
class Constants:
    """Measured on one machine; a worker has one thread.

    Attributes
    ----------
    images_per_second : float
        Of a worker, for one subject.
    seconds_a_subject : float
        More for each further subject, an image.
    worker_bytes : float
        Peak memory of a worker for one subject.
    subject_bytes : float
        More for each further subject; mapped, shared by the workers of a machine.
    tasks_per_second : float
        Chunks that the command can hand out and take back.
    """

    images_per_second: float
    seconds_a_subject: float
    worker_bytes: float
    subject_bytes: float
    tasks_per_second: float


def show_on_paper(measured: Constants, n_subjects: int) -> None:
    print(f"\n{n_subjects} subject{'s' * (n_subjects > 1)}, scores only:\n")
    print(
        "| images | workers | time | disk | memory of the workers | chunks/s "
        "| read from 425 px HDF5 |\n|---|---|---|---|---|---|---|"
    )
    seconds_an_image = (
        1 / measured.images_per_second + (n_subjects - 1) * measured.seconds_a_subject
    )
    worker_bytes = measured.worker_bytes + (n_subjects - 1) * measured.subject_bytes
    for n_images in N_IMAGES:
        disk = n_images * (n_subjects * BYTES_A_SCORE_ROW + BYTES_A_NAME)
        for n_workers in N_WORKERS:
            rate = n_workers / seconds_an_image
            rate = min(rate, measured.tasks_per_second * CHUNK_IMAGES)
            print(
                f"| {n_images:,} | {n_workers} | {show_time(n_images / rate)} "
                f"| {disk / 1e9:.0f} GB | {n_workers * worker_bytes / 1e9:.0f} GB "
                f"| {rate / CHUNK_IMAGES:.2f} | {rate * BYTES_A_425_IMAGE / 1e9:.2f} GB/s |"
            )


def show_time(seconds: float) -> str:
    for limit, name in ((2 * 86400, "days"), (2 * 3600, "h"), (120, "min")):
        if seconds >= limit:
            return f"{seconds / (limit / 2):.1f} {name}"
    return f"{seconds:.0f} s"
