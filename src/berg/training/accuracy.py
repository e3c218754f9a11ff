"""`berg test`: how well a model predicts measured responses, in and out of distribution."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from berg.alexnet import split_features
from berg.catalog import DEFAULT_MODEL_ID, find_card
from berg.devices import pick_device
from berg.downloads.manifest import forget
from berg.errors import InvalidParameterError
from berg.layout import ModelFiles, as_berg_dir
from berg.locks import hold
from berg.metadata import Metadata, load_metadata, save_metadata
from berg.model import EncodingModel
from berg.nsd.survey import survey
from berg.roi_accuracy import DATASETS, LEAST_CEILING
from berg.scoring import Scores, score_responses
from berg.toolkit import BERG
from berg.training.checks import check_sizes, check_test_images, describe_images, sizes_of
from berg.training.description import (
    add_accuracy,
    describe_data,
    describe_test,
    provenance_of,
)
from berg.training.feature_store import FeatureStore
from berg.training.features import BATCH_SIZE, make_features
from berg.training.measured import all_buffers, measure, measure_synthetic
from berg.training.plan import check_resources, plan_testing
from berg.training.stages import keep_seconds
from berg.training.workspace import HEMIS, Workspace

logger = logging.getLogger(__name__)

Float32s = NDArray[np.float32]


@dataclass(frozen=True)
class TestedSubject:
    """How well one subject's model predicts.

    Attributes
    ----------
    subject : int
    metadata_npy : Path
        Where the accuracy of all vertices now lies.
    accuracy : dict of (str, str) to Scores
        By hemisphere and set of images, ``"nsdcore"`` or ``"nsdsynthetic"``.
    seconds : dict of str to float
        What each step took.
    """

    __test__ = False  # pytest takes the name for a test otherwise

    subject: int
    metadata_npy: Path
    accuracy: dict[tuple[str, str], Scores]
    seconds: dict[str, float]

    def median_explained_variance(
        self, dataset: str, least_ceiling: float = LEAST_CEILING
    ) -> float:
        """Median explained variance in percent, over vertices with a noise ceiling.

        Parameters
        ----------
        dataset : {"nsdcore", "nsdsynthetic"}
        least_ceiling : float
            Vertices with a lower ceiling are left out, as in published plots.

        Returns
        -------
        float
            NaN if there is no such vertex.
        """
        kept = [
            scores.explained_variance_percent[scores.noise_ceiling >= least_ceiling]
            for scores in (self.accuracy[hemi, dataset] for hemi in HEMIS)
        ]
        values = np.concatenate(kept)
        return float(np.nanmedian(values)) if np.isfinite(values).any() else float("nan")


def evaluate(
    nsd_dir: str | os.PathLike[str],
    subjects: Iterable[int],
    *,
    model_id: str = DEFAULT_MODEL_ID,
    berg_dir: str | os.PathLike[str] | None = None,
    n_sessions: int | None = None,
    device: str = "auto",
    overwrite: bool = False,
    show_progress: bool = True,
    tell: Callable[[str], object] = logger.info,
) -> list[TestedSubject]:
    """Test the encoding models of subjects on NSD-core's test images and on NSD-synthetic.

    The model is loaded and asked as any user would. Correlation, r2, noise ceiling and explained
    variance of each vertex are put into the metadata under the keys of the model card.

    Parameters
    ----------
    nsd_dir : path-like
        The dataset, laid out as in its public bucket.
    subjects : iterable of int
        Counted from 1.
    model_id : str
    berg_dir : path-like, optional
        Where the models are; trained here, or downloaded.
    n_sessions : int, optional
        For a model whose metadata do not tell: take the test images from the first sessions
        only. None takes those that the model was trained on, else all that there are.
    device, show_progress, tell
        As for `berg.training.train`.
    overwrite : bool
        Whether the accuracy in metadata that came with a downloaded model may be replaced.

    Returns
    -------
    list of TestedSubject

    Raises
    ------
    WeightsNotFoundError
        If there is no model to test.
    NSDFilesNotFoundError, FileFormatError, InvalidParameterError, ResourceError
        As for `berg.training.train`.
    """
    card = find_card(model_id)
    numbers = [card.check_subject(subject) for subject in subjects]
    target = pick_device(device)
    root = as_berg_dir(berg_dir)
    files = card.files(root)
    for number in numbers:
        BERG(root).check_weights(model_id, number)
    known = {number: _known(files, number, n_sessions, overwrite) for number in numbers}
    works = []
    for trained_on in sorted({_sessions(known[number], n_sessions) or 0 for number in numbers}):
        group = [n for n in numbers if (_sessions(known[n], n_sessions) or 0) == trained_on]
        nsd = survey(nsd_dir, group, trained_on or None)
        check_sizes(card, nsd)
        works += [Workspace(card, files, nsd, number, target.type) for number in group]
    works.sort(key=lambda work: numbers.index(work.subject))
    for work in works:
        check_test_images(work)
        _check_other_images(work, known[work.subject])
    plans = [plan_testing(sizes_of(work)) for work in works]
    for work, plan in zip(works, plans, strict=True):
        tell(f"{describe_images(work)}; {plan}")
    there = {stage.folder: stage.finished_bytes for work in works for stage in work.kept_stages}
    check_resources(plans, files.prepared, there_bytes=sum(there.values()))
    tested = []
    for work in works:
        model = BERG(root).get_encoding_model(model_id, device, subject=work.subject)
        with hold(work.folder):
            tested.append(_test_subject(work, model, known[work.subject], show_progress))
    return tested


def _known(
    files: ModelFiles, subject: int, n_sessions: int | None, overwrite: bool
) -> Metadata | None:
    """Return the metadata that there are; raise if they must not be changed."""
    path = files.metadata(subject)
    if not path.exists():
        return None
    metadata = load_metadata(path)
    provenance = provenance_of(metadata)
    if "trained_by" not in provenance and "tested" not in provenance and not overwrite:
        raise InvalidParameterError(
            f"the metadata of subject {subject} came with the model",
            got=str(path),
            do="to replace the accuracy in them by that on your data, use --overwrite",
        )
    if n_sessions not in (None, trained_on := provenance.get("n_sessions", n_sessions)):
        raise InvalidParameterError(
            f"the model of subject {subject} was trained on other sessions",
            got=f"n_sessions={n_sessions}",
            accepted=f"the first {trained_on}, whose images its metadata list",
            do="leave --sessions out",
        )
    return metadata


def _sessions(known: Metadata | None, n_sessions: int | None) -> int | None:
    """Return the sessions to use: those that were asked for, or the model's own."""
    trained_on = provenance_of(known or {}).get("n_sessions")
    return n_sessions if n_sessions is not None or trained_on is None else int(trained_on)


def _test_subject(
    work: Workspace, model: EncodingModel, known: Metadata | None, show_progress: bool
) -> TestedSubject:
    weights_sha256 = model.source.fingerprint()
    if provenance_of(known or {}).get("weights_sha256", weights_sha256) != weights_sha256:
        raise InvalidParameterError(
            f"weights and metadata of subject {work.subject} are not of one model",
            got=f"other weights than {work.files.metadata(work.subject)} tells",
            do="run the same `berg train` again, which goes on from where it was interrupted",
        )
    seconds: dict[str, float] = {}

    def timed(name: str, start: float) -> float:
        now = time.perf_counter()
        seconds[name] = round(seconds.get(name, 0.0) + now - start, 3)
        return now

    now = time.perf_counter()
    buffers = all_buffers(work)
    for hemi in HEMIS:
        if not work.measured(hemi).is_finished:
            measure(work, hemi, buffers=buffers, show_progress=show_progress)
        measure_synthetic(work, hemi, buffers=buffers)
    del buffers
    now = timed("measured responses", now)
    make_features(work, model.device, training=False, show_progress=show_progress)
    now = timed("test features", now)

    metadata = known or describe_data(work)
    accuracy: dict[tuple[str, str], Scores] = {}
    for dataset in DATASETS:
        predicted = dict(zip(HEMIS, _predict(work, model, dataset, show_progress), strict=True))
        now = timed("predictions", now)
        for hemi in HEMIS:
            accuracy[hemi, dataset] = _score(work, hemi, dataset, predicted.pop(hemi))
            add_accuracy(metadata, hemi, dataset, accuracy[hemi, dataset])
        now = timed("accuracy", now)
    describe_test(work, metadata, weights_sha256)
    path = work.files.metadata(work.subject)
    forget(work.files.root, path)  # if they were downloaded: they would count as damaged
    save_metadata(path, metadata)
    timed("metadata", now)
    keep_seconds(work.folder, seconds)
    return TestedSubject(work.subject, path, accuracy, seconds)


def _predict(
    work: Workspace, model: EncodingModel, dataset: str, show_progress: bool
) -> tuple[Float32s, Float32s]:
    """Ask the model for the responses to a set of images, from their stored features."""
    shared, colour = work.shared_features, work.colour_features
    if dataset == "nsdcore":
        wanted = np.isin(work.nsd.design.shared_images, work.data.partition.test)
        stores = [FeatureStore.open(shared / "core.features")]
    else:
        wanted = np.ones(work.data.n_synthetic, np.bool_)
        stores = [
            FeatureStore.open(path)
            for path in (shared / "synthetic.features", colour / "colour.features")
        ]

    def activations() -> Iterator[list[torch.Tensor]]:
        first = 0
        for store in stores:
            for start in range(0, store.shape[0], BATCH_SIZE):
                rows = store.read_rows(start, min(start + BATCH_SIZE, store.shape[0]))
                chosen = rows[wanted[first : first + len(rows)]]
                first += len(rows)
                if len(chosen):
                    yield split_features(torch.from_numpy(chosen).to(model.device))

    return model.encode_activations(activations(), int(wanted.sum()), show_progress)


def _score(work: Workspace, hemi: str, dataset: str, predicted: Float32s) -> Scores:
    """Score one hemisphere's predictions; ceilings use the repeats of the design."""
    data = work.data
    if dataset == "nsdcore":
        shown = work.nsd.design.trial_images(work.subject, data.n_sessions)
        test = data.partition.test
        repeats = np.bincount(np.searchsorted(test, shown[np.isin(shown, test)]))
        measured, ncsnr = work.measured(hemi), data.ncsnr[hemi]
    else:
        repeats = np.bincount(work.nsd.synthetic_images)
        measured = work.synthetic(hemi)
        ncsnr = np.load(measured / "ncsnr.npy")
    return score_responses(
        np.load(measured / "responses.npy"), predicted, ncsnr=ncsnr, repeats=repeats
    )


def _check_other_images(work: Workspace, known: Metadata | None) -> None:
    """Raise if the model was fitted to images that it would now be tested on."""
    images = (known or {}).get("encoding_models", {})
    # Validation images count where they have chosen something: the penalties.
    sets = ["train_img_num"] + ["val_img_num"] * ("lh_ridge_penalty" in images)
    test = work.data.partition.test
    for name in sets:
        both = np.intersect1d(np.asarray(images.get(name, [])), test)
        if len(both):
            raise InvalidParameterError(
                f"the model of subject {work.subject} was fitted to images that would test it",
                got=f"{len(both)} of {len(test)} test images are in its {name}",
                accepted="the dataset, and the sessions, that it was trained on",
                do="point --nsd-dir at that dataset",
            )
