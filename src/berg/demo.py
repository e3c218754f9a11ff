"""`berg demo`: real photographs in, in silico responses of a simulated subject out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from berg.atomic import check_output_path, write_atomically
from berg.catalog import DEFAULT_MODEL_ID, find_card
from berg.layout import cached_simulation
from berg.locks import hold
from berg.plotting import plot_photograph_responses
from berg.reports import check_can_write, write_report
from berg.responses import SavedResponses, save_responses
from berg.simulation import SIMULATION_VERSION, simulate_subject
from berg.simulation.natural_images import photograph_crops
from berg.toolkit import BERG

SUBJECT = 1
ROIS = ("V1v", "FFA-1", "PPA")

_NEXT = """
What you saw is SIMULATED. For a real subject, get its weights and metadata (about 560 MB,
no AWS account; terms: {terms})

  berg download {model_id} --subject {subject} --berg-dir BERG_DIR

and encode your own photographs:

  berg encode my_photos/ --berg-dir BERG_DIR --subject {subject} --roi V1v --out responses.npz
"""


def simulated_berg_dir(show_progress: bool = True) -> Path:
    """Return a berg_dir with the simulated subject 1, built on the first call and cached.

    Parameters
    ----------
    show_progress : bool, default True
        Whether to show progress while it is built.

    Returns
    -------
    Path
        Inside the cache directory, apart from any real model.

    Raises
    ------
    MissingExtraError
        If nilearn or scikit-learn is not installed.
    ResourceError
        If the files cannot be written.
    """
    berg_dir = cached_simulation(SIMULATION_VERSION)
    files = find_card(DEFAULT_MODEL_ID).files(berg_dir)

    def is_whole() -> bool:
        return files.metadata(SUBJECT).is_file() and files.weights_npy(SUBJECT).is_file()

    if not is_whole():
        with hold(berg_dir, wait=True):  # of several processes one builds, and the others wait
            if not is_whole():
                simulate_subject(berg_dir, SUBJECT, show_progress=show_progress)
    return berg_dir


def run_demo(out: Path, echo: Callable[[str], None] = print) -> None:
    """Encode eight crops of photographs, draw the cortex and write a page to look at.

    Parameters
    ----------
    out : Path
        Folder for ``report.html``, ``cortex.png``, ``responses.npz`` and ``photographs``; created
        if need be.
    echo : callable
        Where the text goes.

    Raises
    ------
    MissingExtraError
        If the extras ``plot``, ``report`` or ``simulate`` are not installed.
    InvalidParameterError, ResourceError
        If the files cannot be written.
    """
    photographs, names = photograph_crops()
    files = tuple(f"photographs/{name}.png" for name in names)
    # What would fail at the end fails at once.
    check_can_write(out / "report.html")
    check_output_path(out / "responses.npz", "responses", ".npz")
    for name in ("cortex.png", *files):
        check_output_path(out / name, "a picture", ".png")
    echo("With a SIMULATED subject, built once; nothing is downloaded.")
    berg_dir = simulated_berg_dir()
    berg = BERG(berg_dir)
    model = berg.get_encoding_model(DEFAULT_MODEL_ID, subject=SUBJECT)
    lh, rh = berg.encode(model, photographs)
    means = []
    for roi in ROIS:
        part = berg.get_encoding_model(DEFAULT_MODEL_ID, selection={"roi": roi}, subject=SUBJECT)
        means += [hemi.mean(axis=1) for hemi in berg.encode(part, photographs, show_progress=False)]
    echo("\nMean in silico response (z units) of a SIMULATED subject, left and right hemisphere\n")
    echo(_table(names, means))

    for photograph, name in zip(photographs, files, strict=True):
        with write_atomically(out / name) as file:
            Image.fromarray(photograph.transpose(1, 2, 0)).save(file, "png")
    responses = SavedResponses(
        lh, rh, model.lh_vertices, model.rh_vertices, files, model.provenance()
    )
    save_responses(out / "responses.npz", responses)
    figure = plot_photograph_responses(photographs, lh, rh, simulated=True)
    with write_atomically(out / "cortex.png") as file:
        figure.savefig(file, format="png")
    page = write_report(out / "responses.npz", out / "report.html", berg_dir=berg_dir)
    echo(f"\nResponses:              {out / 'responses.npz'}")
    echo(f"Picture of the cortex:  {out / 'cortex.png'}")
    echo(f"Page to look at:        {page}  (open it in a browser)")
    terms = model.card.facts["terms"]
    echo(_NEXT.format(terms=terms, model_id=DEFAULT_MODEL_ID, subject=SUBJECT))


def _table(names: Sequence[str], means: Sequence[NDArray[np.float32]]) -> str:
    width = max(map(len, names)) + 2
    lines = [
        " " * width + "".join(f"{roi:^18}" for roi in ROIS),
        " " * width + f"{'left':>9}{'right':>9}" * len(ROIS),
    ]
    for name, row in zip(names, np.transpose(means), strict=True):
        lines.append(f"{name:<{width}}" + "".join(f"{value:9.2f}" for value in row))
    return "\n".join(lines)
