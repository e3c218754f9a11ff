"""A simulated copy of the Natural Scenes Dataset: the files that model building reads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from berg.catalog import DEFAULT_MODEL_ID, find_card
from berg.errors import InvalidParameterError
from berg.layout import NSDFiles
from berg.simulation.natural_images import Part as ImagePart
from berg.simulation.nsd_tree.beginning import check_extras, mark_simulated
from berg.simulation.nsd_tree.chance import Use, chance
from berg.simulation.nsd_tree.design import (
    Indices,
    TreeDesign,
    completed_sessions,
    draw_design,
    write_design,
    write_synthetic_design,
)
from berg.simulation.nsd_tree.drives import N_COLOUR, N_SYNTHETIC, compute_drives, count_images
from berg.simulation.nsd_tree.pictures import width_of, write_images, write_synthetic_images
from berg.simulation.nsd_tree.regions import draw_patches, save_map, write_regions
from berg.simulation.nsd_tree.responses import write_all_betas
from berg.simulation.nsd_tree.truth import load_truth, save_truth, truth_path
from berg.simulation.nsd_tree.tuning import draw_truth
from berg.simulation.records import HEMIS
from berg.simulation.subject import (
    SYNTHETIC_DESIGN,
    Extractor,
    alexnet_features,
    check_seed,
    draw_synthetic_trials,
)
from berg.surface.fsaverage import FULL_LEVEL, n_vertices

# Raise it when the same parameters would make another tree.
_TREE_VERSION = 1

_LOWEST_LEVEL = 3  # coarser brains have too few vertices for all regions
_FULL_SIDES = (425, 714)  # pixels: a side of NSD-core's images, the height of NSD-synthetic's
_SMALL_SIDES = (128, 126)  # below full size


def simulate_nsd(
    nsd_dir: str | os.PathLike[str],
    subjects: Sequence[int] = (1,),
    *,
    n_sessions: int = 4,
    n_train: int = 800,
    n_test: int = 120,
    n_val: int = 60,
    level: int = FULL_LEVEL,
    seed: int = 0,
    image_side: int | None = None,
    trials_per_session: int | None = None,
    extract: Extractor | None = None,
    show_progress: bool = True,
) -> Path:
    """Write a simulated NSD: the files that model building reads, in NSD's own formats.

    Only the brains, their regions and the images are made up. Responses are linear readouts of
    the images' first AlexNet scores, with noise at stated ceilings; some vertices are missing in
    some sessions, some are constant. The ground truth lies beside the data: see `load_truth`.

    Parameters
    ----------
    nsd_dir : path-like
        Root of the tree: empty, or one that this function began with the same parameters, which
        is then completed.
    subjects : sequence of int
        1 to 8. The design is of all eight.
    n_sessions : int
        NSD has 40. With 40 subjects complete as many as NSD's did; with 3 or more, subjects 3,
        4, 6 and 8 lack the last.
    n_train, n_test, n_val : int
        Images each subject sees alone, shared images seen three times in time, and other shared
        ones. A subject that lacks sessions may not see all of the first and the last.
    level : int
        Resolution of the brain, 3 to 7: 7 is fsaverage, with NSD's number of images and their
        size; lower ones, for tests, have fewer and smaller images.
    seed : int
        Not negative. Everything random follows from it.
    image_side : int, optional
        Pixels a side of NSD-core's images: by default 425 at level 7, and 128 below.
    trials_per_session : int, optional
        By default 750; more where the images need more, and fewer where they have all been shown
        three times with fewer, so that small trees are small.
    extract : callable, optional
        Maps uint8 images (n, 3, height, width) to float32 features (n, n_features), in place of
        AlexNet. For tests.
    show_progress : bool
        Whether to show progress bars.

    Returns
    -------
    Path
        The root of the tree.

    Raises
    ------
    InvalidParameterError
        If a parameter is not accepted, the images do not fit into the trials, or the directory
        holds anything but a simulated tree of the same parameters.
    MissingExtraError
        If an optional package is missing.
    ResourceError
        If there is too little space, or a file cannot be written.

    Notes
    -----
    Every file is put in place when it is complete. A call that was interrupted goes on, with the
    files that are there, when it is made again.
    """
    root = Path(nsd_dir).expanduser()
    card = find_card(DEFAULT_MODEL_ID)
    subjects = sorted({card.check_subject(subject) for subject in subjects})
    check_seed(seed)
    check_extras()
    design = draw_design(
        n_sessions,
        n_train,
        n_test,
        n_val,
        chance(seed, Use.DESIGN),
        trials_per_session=trials_per_session,
        all_ids=level == FULL_LEVEL,
    )
    sides = _FULL_SIDES if level == FULL_LEVEL else _SMALL_SIDES
    sides = (sides[0] if image_side is None else image_side, sides[1])
    if not subjects or sides[0] < 1 or level < _LOWEST_LEVEL:
        raise InvalidParameterError(
            "no such tree can be simulated",
            got=f"subjects={subjects}, image_side={image_side}, level={level}",
            accepted=f"one subject and one pixel at least, level {_LOWEST_LEVEL} or more",
        )
    mark_simulated(
        root,
        {
            "simulated": True,
            "note": "Simulated data: nothing in this folder was measured in a brain.",
            "tree_version": _TREE_VERSION,
            "subjects": subjects,
            "n_sessions": n_sessions,
            "sessions": {str(s): completed_sessions(s, n_sessions) for s in subjects},
            "n_train": n_train,
            "n_test": n_test,
            "n_val": n_val,
            "trials_per_session": design.trials_per_session,
            "level": level,
            "seed": int(seed),
            "image_side": sides[0],
            "network": "AlexNet" if extract is None else "another, for tests",
        },
        _size_bytes(design, subjects, level, sides),
    )
    files = NSDFiles(root)
    _write_stimuli(files, design, subjects, seed, sides, show_progress)
    if waiting := [subject for subject in subjects if not truth_path(root, subject).exists()]:
        extract = alexnet_features() if extract is None else extract
        _write_truths(files, design, waiting, seed, level, extract, show_progress)
    n_files = sum(2 + 2 * completed_sessions(subject, n_sessions) for subject in subjects)
    with tqdm(total=n_files, desc="Betas", unit="file", disable=not show_progress) as bar:
        for subject in subjects:
            write_all_betas(files, design, subject, load_truth(root, subject), level, seed, bar)
    return root


def _size_bytes(
    design: TreeDesign, subjects: Sequence[int], level: int, sides: tuple[int, int]
) -> int:
    """Return about how large the tree will be: betas, images and readouts."""
    side, height = sides
    n_own = int(design.subject_images.shape[1]) - design.n_shared
    n_images = design.n_shared + n_own * len(subjects)
    trials = sum(completed_sessions(subject, design.n_sessions) for subject in subjects)
    n_synthetic_trials = sum(repeats * count for repeats, count in SYNTHETIC_DESIGN.items())
    # 60: the ground truth, a readout of 50 drives and some maps.
    n_maps = trials * design.trials_per_session + len(subjects) * (n_synthetic_trials + 60)
    n_synthetic = (N_SYNTHETIC - N_COLOUR) + N_COLOUR * len(subjects)
    n_pixels = n_images * side**2 + n_synthetic * height * width_of(height)
    return 2 * 4 * n_vertices(level) * n_maps + 3 * n_pixels


def _write_stimuli(
    files: NSDFiles,
    design: TreeDesign,
    subjects: Sequence[int],
    seed: int,
    sides: tuple[int, int],
    show_progress: bool,
) -> None:
    """Write both designs and all images."""
    side, height = sides
    if not files.design.exists():
        write_design(files, design)
    if not files.synthetic_design.exists():
        trials = draw_synthetic_trials(chance(seed, Use.SYNTHETIC_TRIALS))
        write_synthetic_design(files, trials)
    if not files.stimuli.exists():
        shared = design.subject_images[0, : design.n_shared]
        own = {subject: design.subject_images[subject - 1, len(shared) :] for subject in subjects}
        n_images = len(shared) + sum(map(len, own.values()))
        sets: dict[int, tuple[ImagePart, Indices]] = {0: ("test", shared)}
        sets |= {subject: ("train", ids) for subject, ids in own.items()}
        with tqdm(total=n_images, desc="Images", unit="image", disable=not show_progress) as bar:
            write_images(files.stimuli, sets, (design.n_ids, side), seed, bar)
    synthetic = {0: (files.synthetic_stimuli, N_SYNTHETIC - N_COLOUR)} | {
        subject: (files.synthetic_colour_stimuli(subject), N_COLOUR) for subject in subjects
    }
    for subject, (path, count) in synthetic.items():
        if not path.exists():
            rng = chance(seed, Use.SYNTHETIC_IMAGES, subject)
            write_synthetic_images(path, count, height, rng)


def _write_truths(
    files: NSDFiles,
    design: TreeDesign,
    subjects: Sequence[int],
    seed: int,
    level: int,
    extract: Extractor,
    show_progress: bool,
) -> None:
    """Draw and write subjects' regions, noise ceilings and, last, ground truth."""
    trials = draw_synthetic_trials(chance(seed, Use.SYNTHETIC_TRIALS))
    with tqdm(
        total=count_images(design) * len(subjects),
        desc="Images through AlexNet",
        unit="image",
        disable=not show_progress,
    ) as bar:
        for subject in subjects:
            drives = compute_drives(files, design, subject, extract, bar)
            patches = draw_patches(subject, seed, level)
            rois = write_regions(files, subject, patches, seed, level)
            truth = draw_truth(design, drives, trials, rois, subject, seed, level)
            for hemi in HEMIS:
                save_map(files.ncsnr(subject, hemi), truth.ncsnr[hemi])
            save_truth(files.nsd_dir, subject, truth)
