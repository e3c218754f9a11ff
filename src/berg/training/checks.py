"""What is looked at before work starts: that the data suffice, and suit the model."""

from __future__ import annotations

from berg.catalog import ModelCard
from berg.errors import FileFormatError, InvalidParameterError, warn
from berg.nsd.survey import NSDData
from berg.training.plan import Sizes
from berg.training.workspace import Workspace

_LEAST_TEST_IMAGES, _MANY_TEST_IMAGES = 3, 100


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


def sizes_of(work: Workspace) -> Sizes:
    """Return the sizes of a subject's data, which memory and disk follow from.

    Parameters
    ----------
    work : Workspace

    Returns
    -------
    Sizes
    """
    data, nsd = work.data, work.nsd
    return Sizes(
        n_train=len(data.partition.train),
        n_test=len(data.partition.test),
        n_shared=len(nsd.design.shared_images),
        n_synthetic=data.n_synthetic,
        n_vertices=data.n_vertices,
        n_trials=max(nsd.design.trials_per_session, len(nsd.synthetic_images)),
        n_features=work.card.n_features,
        n_components=work.card.n_components,
    )


def describe_images(work: Workspace) -> str:
    """Say in a line which images a subject saw.

    Parameters
    ----------
    work : Workspace

    Returns
    -------
    str
    """
    partition, n_sessions = work.data.partition, work.data.n_sessions
    return (
        f"subject {work.subject}: {n_sessions} session{'s' if n_sessions > 1 else ''}, "
        f"{len(partition.train)} training, {len(partition.val)} validation and "
        f"{len(partition.test)} test images"
    )


def check_test_images(work: Workspace) -> None:
    """Refuse to test on too few images, and warn of few.

    Parameters
    ----------
    work : Workspace

    Raises
    ------
    InvalidParameterError
        If there are fewer than 3 test images: with two, every correlation is 1 or -1.

    Warns
    -----
    BERGWarning
        If there are fewer than 100: the correlation of a vertex then scatters by 0.1 and more.
    """
    n_test = len(work.data.partition.test)
    if n_test < _LEAST_TEST_IMAGES:
        raise InvalidParameterError(
            f"too few test images of subject {work.subject}",
            got=f"{n_test} shared images seen three times in {work.data.n_sessions} sessions",
            accepted=f"{_LEAST_TEST_IMAGES} or more; NSD's 515 need 30 sessions",
            do="use more sessions",
        )
    if n_test < _MANY_TEST_IMAGES:
        warn(
            f"subject {work.subject} has only {n_test} test images in {work.data.n_sessions} "
            "sessions: accuracy will scatter widely"
        )


def check_training_images(work: Workspace) -> None:
    """Refuse at once what would fail after hours.

    Parameters
    ----------
    work : Workspace

    Raises
    ------
    InvalidParameterError
        If there are no more training images than components, no validation images for the
        ridge penalties, or fewer than 3 test images.

    Warns
    -----
    BERGWarning
        If there are fewer than 100 test images.
    """
    partition, n_components = work.data.partition, work.card.n_components
    n_train = len(partition.train)
    if n_train <= n_components:
        raise InvalidParameterError(
            f"too few training images of subject {work.subject} for {n_components} components",
            got=f"{n_train} in {work.data.n_sessions} sessions",
            accepted=f"{n_components + 1} or more",
            do="use more sessions",
        )
    if work.ridge and not len(partition.val):
        raise InvalidParameterError(
            f"subject {work.subject} has no validation images to choose penalties on",
            got=f"0 shared images seen fewer than three times in {work.data.n_sessions} sessions",
            do="train without --ridge",
        )
    check_test_images(work)
