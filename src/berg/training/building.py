"""`berg train`: from a subject's measured responses to weights, metadata and predictions.

Every step is a stage (see `berg.training.workspace`): it is skipped where it is finished, so
that an interrupted training goes on where it was, and ends with the same bytes.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from berg.catalog import DEFAULT_MODEL_ID
from berg.devices import pick_device
from berg.files import sha256_of
from berg.fitting import (
    fit_components,
    fit_ridge,
    project,
    regression_from_products,
    regression_rows,
    validation_rows,
)
from berg.locks import hold
from berg.metadata import save_metadata
from berg.training.description import describe_training
from berg.training.feature_store import FeatureStore
from berg.training.features import make_features
from berg.training.fitted import load_fitted, save_fitted
from berg.training.measured import all_buffers, measure, measure_synthetic
from berg.training.preparing import prepare
from berg.training.publish import PREDICTED, is_published, publish, staged_files
from berg.training.stages import keep_seconds
from berg.training.trial_files import Buffers
from berg.training.trials import Group
from berg.training.workspace import HEMIS, Workspace
from berg.weights import RegressionParams, save_npy

logger = logging.getLogger(__name__)

Float32s = NDArray[np.float32]


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
    target = pick_device(device)
    plan = prepare(
        nsd_dir,
        subjects,
        model_id=model_id,
        berg_dir=berg_dir,
        n_sessions=n_sessions,
        ridge=ridge,
        device_type=target.type,
        overwrite=overwrite,
        tell=tell,
    )
    plan.check()
    return [train_subject(work, target, show_progress, tell) for work in plan.works]


def train_subject(
    work: Workspace, device: torch.device, show_progress: bool, tell: Callable[[str], object]
) -> TrainedSubject:
    """Train one subject, or find it trained, and give its scratch space back; see `train`."""
    files, subject = work.files, work.subject
    with hold(work.folder):
        if is_published(work):
            tell(f"subject {subject} is trained already: {files.weights_npy(subject)}")
            seconds = {}
        else:
            seconds = _make_stages(work, device, show_progress)
        for stage in (work.model, work.features, work.components, *map(work.trials, HEMIS)):
            stage.remove()
    predictions = {
        (hemi, images): files.predictions(subject, hemi, images)
        for hemi in HEMIS
        for images in PREDICTED
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
    # `measured` is made with `trials`, and `shared_features` may be another subject's work.
    left_out = {work.measured(hemi).folder for hemi in HEMIS}
    if work.shared_features.is_finished:
        left_out.add(work.shared_features.folder)
    stages = [stage for stage in work.stages if stage.folder not in left_out]
    for stage in work.stages[1:]:  # but for the shared features, which are others' too
        if not stage.is_finished:
            stage.remove()  # of other data or options: its space is needed
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
    keep_seconds(work.folder, seconds)
    publish(work)
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
        for name, products, n_present in zip(
            ("train", "val"), reduced.products, reduced.n_present, strict=False
        ):
            np.save(folder / f"{name}_products.npy", products)
            np.save(folder / f"{name}_n_present.npy", n_present)


def _make_model(work: Workspace) -> None:
    with work.model.make() as folder:
        staged = staged_files(work, folder)
        scaler, pca = load_fitted(work.components.folder)
        scores = {
            name: np.load(work.components / f"{name}_scores.npy")
            for name in ("train", "val", *PREDICTED)
        }
        regressions: list[RegressionParams] = []
        penalties: dict[str, Float32s] = {}
        for hemi in HEMIS:
            products = np.load(work.trials(hemi) / "train_products.npy")
            if work.ridge:
                regression, penalties[hemi] = fit_ridge(
                    products,
                    scores["train"],
                    np.load(work.trials(hemi) / "val_products.npy"),
                    scores["val"],
                    n_present=np.load(work.trials(hemi) / "val_n_present.npy"),
                )
            else:
                regression = regression_from_products(products, scores["train"])
            regressions.append(regression)
            for images in PREDICTED:
                path = staged[work.files.predictions(work.subject, hemi, images)]
                predicted = scores[images] @ regression.coef_.T
                predicted += regression.intercept_
                np.save(path, predicted.astype(np.float32, copy=False))
        weights = staged[work.files.weights_npy(work.subject)]
        save_npy(weights, scaler, pca, *regressions)
        metadata = describe_training(work, sha256_of(weights), penalties)
        save_metadata(staged[work.files.metadata(work.subject)], metadata)
