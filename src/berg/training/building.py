"""`berg train`: from a subject's measured responses to weights, metadata and predictions.

Every step is a stage (see `berg.training.workspace`): it is skipped where it is finished, so
that an interrupted training goes on where it was, and ends with the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from berg.catalog import DEFAULT_MODEL_ID, ModelCard, find_card
from berg.devices import pick_device
from berg.errors import FileFormatError
from berg.fitting import (
    fit_components,
    fit_ridge,
    project,
    regression_from_products,
    regression_rows,
    validation_rows,
)
from berg.layout import as_berg_dir
from berg.metadata import save_metadata
from berg.nsd.survey import NSDData, survey
from berg.training.description import describe_training
from berg.training.feature_store import FeatureStore
from berg.training.features import make_features
from berg.training.fitted import load_fitted, save_fitted
from berg.training.measured import all_buffers, measure, measure_synthetic
from berg.training.plan import Sizes, bytes_in, check_resources, plan_training
from berg.training.publish import check_vacant, put_in_place
from berg.training.stages import keep_seconds, lock
from berg.training.trial_files import Buffers
from berg.training.trials import Group
from berg.training.workspace import HEMIS, Workspace
from berg.weights import RegressionParams, save_npy

logger = logging.getLogger(__name__)

Float32s = NDArray[np.float32]
_DATASETS = ("test", "nsdsynthetic")  # that responses are predicted to
_PLACES = "bytes.json"


@dataclass(frozen=True)
class TrainedSubject:
    """What the training of one subject gave.

    Attributes
    ----------
    subject : int
    weights_npy, metadata_npy : Path
    predictions : dict of (str, str) to Path
        By hemisphere and set of images, ``"test"`` or ``"nsdsynthetic"``: float32
        (n_images, n_vertices), in the order of ``test_img_num`` or of NSD-synthetic's ids.
    seconds : dict of str to float
        What each stage took to make, whenever that was; empty if nothing was left to do.
    """

    subject: int
    weights_npy: Path
    metadata_npy: Path
    predictions: dict[tuple[str, str], Path]
    seconds: dict[str, float]


def train(
    nsd_dir: str | os.PathLike[str],
    subjects: Iterable[int],
    *,
    model_id: str = DEFAULT_MODEL_ID,
    berg_dir: str | os.PathLike[str] | None = None,
    n_sessions: int | None = None,
    ridge: bool = False,
    device: str = "auto",
    overwrite: bool = False,
    show_progress: bool = True,
    tell: Callable[[str], object] = logger.info,
) -> list[TrainedSubject]:
    """Train the encoding models of subjects on a copy of the Natural Scenes Dataset.

    Training may be interrupted at any moment, and goes on from the last finished stage.

    Parameters
    ----------
    nsd_dir : path-like
        The dataset, laid out as in its public bucket.
    subjects : iterable of int
        Counted from 1. They are trained one after the other; the features of the images that
        they share are computed once.
    model_id : str
    berg_dir : path-like, optional
        Where weights, metadata and predictions go, and what is kept to go on from. None takes
        ``$BERG_DIR`` or the platform's data directory.
    n_sessions : int, optional
        Train on the first sessions only. None takes all that the subject completed.
    ridge : bool
        Choose one ridge penalty for each vertex on the validation images, where the model card
        has plain linear regression.
    device : str
        For the network: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    overwrite : bool
        Whether files of another training, or downloaded ones, may be replaced.
    show_progress : bool
        Whether to show progress bars.
    tell : callable
        Called with what a user should read: what will be needed, what is done.

    Returns
    -------
    list of TrainedSubject

    Raises
    ------
    NSDFilesNotFoundError
        If files of the dataset are missing: all of them in one message, before any work.
    FileFormatError
        If a file is damaged, or does not fit the others.
    InvalidParameterError
        If there is no such model, subject or device, or files of another model are in the way.
    ResourceError
        If memory or disk is short, or another process trains the same subject.
    """
    card = find_card(model_id)
    numbers = [card.check_subject(subject) for subject in subjects]
    target = pick_device(device)
    nsd = survey(nsd_dir, numbers, n_sessions)
    files = card.files(as_berg_dir(berg_dir))
    check_sizes(card, nsd)
    works = [Workspace(card, files, nsd, number, target.type, ridge) for number in numbers]
    for work in works:
        _check_start(work, overwrite, tell)
    return [_train_subject(work, target, show_progress, tell) for work in works]


def check_sizes(card: ModelCard, nsd: NSDData) -> None:
    """Refuse data that are not of fsaverage; a small simulated brain is good for trying out.

    Parameters
    ----------
    card : ModelCard
    nsd : NSDData

    Raises
    ------
    FileFormatError
        If a hemisphere has another number of vertices than the model.
    """
    for subject, data in nsd.subjects.items():
        if data.n_vertices != card.n_vertices and not nsd.simulated:
            raise FileFormatError(
                f"the betas of subject {subject} are not on the surface of the model",
                got=f"{data.n_vertices} vertices a hemisphere",
                accepted=f"{card.n_vertices} vertices, fsaverage",
                do="get the betas in fsaverage space: nsddata_betas/ppdata/subjXX/fsaverage",
            )


def _check_start(work: Workspace, overwrite: bool, tell: Callable[[str], object]) -> None:
    """State what a subject's training needs; raise if it cannot be had."""
    if _is_published(work):
        return
    if not work.model.is_finished:  # else it was killed while its files were put in place
        check_vacant(_targets(work), overwrite)
    data, partition, nsd = work.data, work.data.partition, work.nsd
    plan = plan_training(
        Sizes(
            n_train=len(partition.train),
            n_val=len(partition.val),
            n_test=len(partition.test),
            n_shared=len(nsd.design.shared_images),
            n_synthetic=data.n_synthetic,
            n_colour=data.n_colour,
            n_vertices=data.n_vertices,
            n_trials=max(nsd.design.trials_per_session, len(nsd.synthetic_images)),
            n_features=work.card.n_features,
            n_components=work.card.n_components,
        )
    )
    tell(
        f"subject {work.subject}: {len(partition.train)} training, {len(partition.val)} validation "
        f"and {len(partition.test)} test images, {data.n_sessions} sessions; {plan}"
    )
    there = bytes_in(work.folder) + bytes_in(work.shared_features.folder)
    check_resources(plan, work.files.prepared, there_bytes=there)


def _train_subject(
    work: Workspace, device: torch.device, show_progress: bool, tell: Callable[[str], object]
) -> TrainedSubject:
    files, subject = work.files, work.subject
    with lock(work.folder):
        if _is_published(work):
            tell(f"subject {subject} is trained already: {files.weights_npy(subject)}")
            seconds = {}
        else:
            seconds = _make_stages(work, device, show_progress)
    predictions = {
        (hemi, images): files.predictions(subject, hemi, images)
        for hemi in HEMIS
        for images in _DATASETS
    }
    return TrainedSubject(
        subject, files.weights_npy(subject), files.metadata(subject), predictions, seconds
    )


def _make_stages(work: Workspace, device: torch.device, show_progress: bool) -> dict[str, float]:
    """Make every stage that is not finished, put the model in place, and give scratch back.

    Returns
    -------
    dict of str to float
        Seconds that the subject's stages took, now or before they were interrupted.
    """
    stages = [work.colour_features, work.features, work.components, work.model]
    for hemi in HEMIS:
        stages += [work.trials(hemi), work.synthetic(hemi)]
    if not work.shared_features.is_finished:
        stages.insert(0, work.shared_features)
    if not work.model.is_finished:
        if not work.components.is_finished:
            make_features(work, device, training=True, show_progress=show_progress)
            _make_components(work, show_progress)
        buffers = all_buffers(work)
        for hemi in HEMIS:
            _make_trials(work, hemi, buffers, show_progress)
            measure_synthetic(work, hemi, buffers=buffers)
        del buffers
        _make_model(work)
    seconds = {stage.name: stage.seconds for stage in stages if stage.is_finished}
    _publish(work)
    keep_seconds(work.folder, seconds)
    for stage in (work.model, work.features, work.components, *map(work.trials, HEMIS)):
        stage.remove()
    return seconds


def _make_components(work: Workspace, show_progress: bool) -> None:
    shared, own = work.shared_features, work.features
    with work.components.make() as folder:
        train = FeatureStore.open(own / "train.features")
        fitted = fit_components(train, work.card.n_components, show_progress=show_progress)
        save_fitted(folder, fitted.scaler, fitted.pca)

        def scores(path: Path) -> Float32s:
            return project(FeatureStore.open(path), fitted.scaler, fitted.pca).astype(np.float32)

        core = scores(shared / "core.features")
        ids, partition = work.nsd.design.shared_images, work.data.partition
        np.save(folder / "train_scores.npy", fitted.scores)
        np.save(folder / "val_scores.npy", core[np.searchsorted(ids, partition.val)])
        np.save(folder / "test_scores.npy", core[np.searchsorted(ids, partition.test)])
        synthetic = [
            scores(shared / "synthetic.features"),
            scores(work.colour_features / "colour.features"),
        ]
        np.save(folder / "nsdsynthetic_scores.npy", np.concatenate(synthetic))


def _make_trials(work: Workspace, hemi: str, buffers: Buffers, show_progress: bool) -> None:
    stage = work.trials(hemi)
    if stage.is_finished and work.measured(hemi).is_finished:
        return
    train, val = (np.load(work.components / f"{name}_scores.npy") for name in ("train", "val"))
    partition = work.data.partition
    groups = [Group(partition.train, regression_rows(train))]
    if work.ridge:
        groups.append(Group(partition.val, validation_rows(val, train)))
    with stage.make() as folder:
        reduced = measure(work, hemi, groups, buffers=buffers, show_progress=show_progress)
        for name, products in zip(("train", "val"), reduced.products, strict=False):
            np.save(folder / f"{name}_products.npy", products)


def _make_model(work: Workspace) -> None:
    with work.model.make() as folder:
        staged = _staged(work, folder)
        scaler, pca = load_fitted(work.components.folder)
        scores = {
            name: np.load(work.components / f"{name}_scores.npy")
            for name in ("train", "val", *_DATASETS)
        }
        regressions: list[RegressionParams] = []
        penalties: dict[str, Float32s] = {}
        for hemi in HEMIS:
            products = np.load(work.trials(hemi) / "train_products.npy")
            if work.ridge:
                val_products = np.load(work.trials(hemi) / "val_products.npy")
                regression, penalties[hemi] = fit_ridge(
                    products, scores["train"], val_products, scores["val"]
                )
            else:
                regression = regression_from_products(products, scores["train"])
            regressions.append(regression)
            for images in _DATASETS:
                path = staged[work.files.predictions(work.subject, hemi, images)]
                predicted = scores[images] @ regression.coef_.T
                predicted += regression.intercept_
                np.save(path, predicted.astype(np.float32, copy=False))
        weights = staged[work.files.weights_npy(work.subject)]
        save_npy(weights, scaler, pca, *regressions)
        with weights.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        metadata = describe_training(work, sha256, penalties)
        save_metadata(staged[work.files.metadata(work.subject)], metadata)


def _targets(work: Workspace) -> list[Path]:
    """Return the files of the finished model, in the order in which they appear: metadata last."""
    files, subject = work.files, work.subject
    predictions = [files.predictions(subject, h, images) for h in HEMIS for images in _DATASETS]
    return [files.weights_npy(subject), *predictions, files.metadata(subject)]


def _staged(work: Workspace, folder: Path) -> dict[Path, Path]:
    """Return, for each file of the model, where it is written first."""
    return {target: folder / target.name for target in _targets(work)}


def _publish(work: Workspace) -> None:
    """Put the finished model's files into their places."""
    # What was converted from weights that are now replaced.
    work.files.weights_safetensors(work.subject).unlink(missing_ok=True)
    put_in_place({staged: final for final, staged in _staged(work, work.model.folder).items()})
    with work.published.make() as folder:
        sizes = {str(path): path.stat().st_size for path in _targets(work)[:-1]}
        (folder / _PLACES).write_text(json.dumps(sizes))


def _is_published(work: Workspace) -> bool:
    """Whether this very model was put in place, and is there still.

    Metadata need only be there: `berg test` adds to them.
    """
    if not work.published.is_finished:
        return False
    sizes = json.loads((work.published / _PLACES).read_text())
    *others, metadata = _targets(work)
    return metadata.is_file() and all(
        path.is_file() and path.stat().st_size == sizes.get(str(path)) for path in others
    )
