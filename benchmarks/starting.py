"""`python -m benchmarks.starting`: from the start of a fresh process to the file with its result.

`berg encode one.jpg --roi V1v`, weights converted, beside the script that a user would write with
PyTorch and scikit-learn. Then the parts that ours is made of.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from benchmarks.table import ROUNDS, print_machine, run, show, take_turns
from berg import BERG
from berg.catalog import DEFAULT_MODEL_ID, find_card
from berg.demo import simulated_berg_dir
from berg.responses import load_responses
from berg.simulation.natural_images import photograph_crops

_REFERENCE = """
import sys
from pathlib import Path
import numpy as np
from PIL import Image
from benchmarks.reference import Reference
weights, metadata, photograph, out = sys.argv[1:]
fmri = np.load(metadata, allow_pickle=True).item()["fmri"]
rows = tuple(fmri[f"{hemi}_fsaverage_rois"]["V1v"] for hemi in ("lh", "rh"))
image = Image.open(photograph).convert("RGB")
side = min(image.size)
left, top = (image.width - side) // 2, (image.height - side) // 2
pixels = np.asarray(image.crop((left, top, left + side, top + side)))
lh, rh = Reference(Path(weights), rows).tidy(np.moveaxis(pixels, -1, 0)[np.newaxis].copy())
np.savez(out, lh=lh, rh=rh)
"""


def main() -> None:
    with TemporaryDirectory() as folder:
        berg_dir = own_berg_dir(Path(folder))
        files = find_card(DEFAULT_MODEL_ID).files(berg_dir)
        photograph = Path(folder, "one.jpg")
        Image.fromarray(np.moveaxis(photograph_crops()[0][0], 0, -1)).save(photograph, quality=95)
        ours, theirs = Path(folder, "ours.npz"), Path(folder, "theirs.npz")
        command = ["encode", photograph, "--subject", "1", "--roi", "V1v"]
        command += ["--berg-dir", berg_dir, "--out", ours, "--quiet"]
        given = map(str, (files.weights_npy(1), files.metadata(1), photograph, theirs))
        reference = tuple(given)

        print_machine()
        print("| what | ours | reference | figure | target |")
        print("|---|---|---|---|---|")
        our_seconds, their_seconds = take_turns(
            lambda: start("berg.cli", *command), lambda: run(_REFERENCE, *reference)
        )
        show(
            (
                "one JPEG to V1v, a fresh process from start to end",
                f"{our_seconds:.2f} s",
                f"{their_seconds:.2f} s",
                f"{our_seconds / their_seconds:.2f} of it",
                "≤ 1/2",
            )
        )
        difference = largest_difference(ours, theirs)
        show(("its responses", "", "", f"max abs difference {difference:.1e} z", "≤ 1e-4 z"))

        rounds = [profile(*command) for _ in range(ROUNDS + 1)][1:]
    print("\n| part of ours | seconds | share |")
    print("|---|---|---|")
    whole = statistics.median(sum(parts.values()) for parts in rounds)
    medians = {name: statistics.median(parts[name] for parts in rounds) for name in rounds[0]}
    for name, seconds in sorted(medians.items(), key=lambda item: (item[0] == "other", -item[1])):
        print(f"| {name} | {seconds:.3f} | {seconds / whole:.0%} |")
    print(f"| whole | {whole:.3f} | parts: {sum(medians.values()) / whole:.0%} |")


def own_berg_dir(folder: Path) -> Path:
    """The simulated subject with converted weights, apart from the directory that is shared."""
    card = find_card(DEFAULT_MODEL_ID)
    shared, own = card.files(simulated_berg_dir()), card.files(folder / "berg_dir")
    for kind in ("weights_npy", "metadata"):
        link = getattr(own, kind)(1)
        link.parent.mkdir(parents=True)
        link.symlink_to(getattr(shared, kind)(1).resolve())
    BERG(own.berg_dir).convert_weights(DEFAULT_MODEL_ID, subject=1)
    return own.berg_dir


def start(module: str, *arguments: str | Path) -> str:
    """Run a module in a fresh process; return what it wrote to standard error."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr


def profile(*command: str | Path) -> dict[str, float]:
    """Seconds of each part of one run, which together are those from its start to its end."""
    before = time.perf_counter()  # counts from the same moment in all processes, on Linux
    last_line = start("benchmarks.profiled", *command).splitlines()[-1]
    after = time.perf_counter()
    told = json.loads(last_line)
    return {
        "interpreter, start": told["start"] - before,
        **told["seconds"],
        "interpreter, end": after - told["end"],
    }


def largest_difference(ours: Path, theirs: Path) -> float:
    saved = load_responses(ours)
    with np.load(theirs) as reference:
        return max(
            float(np.abs(mine - reference[hemi]).max())
            for hemi, mine in (("lh", saved.lh), ("rh", saved.rh))
        )


if __name__ == "__main__":
    main()
