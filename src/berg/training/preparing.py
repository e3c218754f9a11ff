"""What training looks at before it starts: data, places, memory and disk of all subjects."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from berg.catalog import find_card
from berg.layout import as_berg_dir
from berg.nsd.survey import survey
from berg.training.checks import (
    check_sizes,
    check_training_images,
    describe_images,
    sizes_of,
)
from berg.training.plan import Plan, check_resources, plan_training
from berg.training.publish import check_vacant, is_published, staged_files
from berg.training.workspace import Workspace


@dataclass(frozen=True)
class TrainingPlan:
    """What is going to be trained, and what that takes.

    Attributes
    ----------
    works : tuple of Workspace
        One for each subject, also of those that are trained already.
    needs : dict of int to Plan
        By subject, of those that are not.
    there_bytes : int
        Disk that an earlier, interrupted run has taken for the same already.
    """

    works: tuple[Workspace, ...]
    needs: dict[int, Plan]
    there_bytes: int

    def check(self, *, n_at_once: int = 1, memory: bool = True) -> None:
        """Refuse what the machine is too small for.

        Parameters
        ----------
        n_at_once : int
            Subjects that are trained at the same time.
        memory : bool
            Whether they are trained on this machine; else only the disk is looked at.

        Raises
        ------
        ResourceError
            If less memory or disk is free than they need.
        """
        if self.needs:
            check_resources(
                list(self.needs.values()),
                self.works[0].files.prepared,
                there_bytes=self.there_bytes,
                n_at_once=n_at_once,
                memory=memory,
            )


def prepare(
    nsd_dir: str | os.PathLike[str],
    subjects: Iterable[int],
    *,
    model_id: str,
    berg_dir: str | os.PathLike[str] | None,
    n_sessions: int | None,
    ridge: bool,
    device_type: str,
    overwrite: bool,
    tell: Callable[[str], object],
) -> TrainingPlan:
    """Look at everything that a training depends on, before any work.

    Parameters
    ----------
    nsd_dir, subjects, model_id, berg_dir, n_sessions, ridge, overwrite, tell
        As for `berg.training.train`.
    device_type : str
        ``"cpu"``, ``"cuda"`` or ``"mps"``.

    Returns
    -------
    TrainingPlan
        Whether the machine has what it takes is not looked at yet.

    Raises
    ------
    NSDFilesNotFoundError, FileFormatError, InvalidParameterError
        As from `berg.training.train`.
    """
    card = find_card(model_id)
    numbers = [card.check_subject(subject) for subject in subjects]
    nsd = survey(nsd_dir, numbers, n_sessions)
    files = card.files(as_berg_dir(berg_dir))
    check_sizes(card, nsd)
    works = tuple(Workspace(card, files, nsd, number, device_type, ridge) for number in numbers)
    waiting = [work for work in works if not is_published(work)]
    for work in waiting:
        check_training_images(work)
        if not overwrite:
            safetensors = files.weights_safetensors(work.subject)
            check_vacant(staged_files(work, work.model.folder), [safetensors])
    needs = {work.subject: plan_training(sizes_of(work)) for work in waiting}
    for work in waiting:
        tell(f"{describe_images(work)}; {needs[work.subject]}")
    there = {stage.folder: stage.finished_bytes for work in waiting for stage in work.stages}
    return TrainingPlan(works, needs, sum(there.values()))
