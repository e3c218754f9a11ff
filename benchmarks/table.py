"""How benchmarks are timed, and the table that they print."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import torch

ROUNDS = 5
Row = tuple[str, str, str, str, str]


def print_machine(rounds: int = ROUNDS) -> None:
    names = [
        line.split(":")[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    print(
        f"{date.today()}; {names[0] if names else platform.processor()}, {os.cpu_count()} cores; "
        f"Python {platform.python_version()}, PyTorch {torch.__version__}, "
        f"NumPy {np.__version__}; {torch.get_num_threads()} threads; medians of {rounds} rounds.\n"
    )


def show(row: Row) -> None:
    print(f"| {' | '.join(row)} |", flush=True)


def take_turns(*jobs: Callable[[], object], rounds: int = ROUNDS) -> list[float]:
    """Median seconds of each job; they run in turn, after one round that is not counted."""
    seconds: list[list[float]] = [[] for _ in jobs]
    for round_ in range(rounds + 1):
        for job, taken in zip(jobs, seconds, strict=True):
            start = time.perf_counter()
            job()
            if round_:
                taken.append(time.perf_counter() - start)
    return [statistics.median(taken) for taken in seconds]


def run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout
