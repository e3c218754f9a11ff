"""`write_report`: what is reported on, from where, into which file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from berg import catalog
from berg.atomic import check_output_path, write_atomically
from berg.errors import InvalidParameterError, InvalidParameterTypeError
from berg.reports.accuracy import model_page
from berg.reports.choosing import (
    Images,
    Subjects,
    choose_from_path,
    choose_lazy,
    choose_saved,
    list_subjects,
    refuse_subject,
)
from berg.reports.rendering import check_installed
from berg.reports.responses import ShownResponses, responses_page
from berg.responses import Responses, SavedResponses
from berg.toolkit import BERG

DEFAULT_OUT = Path("report.html")
DEFAULT_IMAGES = 10


def write_report(
    what: str | os.PathLike[str] | Responses | SavedResponses,
    out: str | os.PathLike[str] = DEFAULT_OUT,
    *,
    images: Images = DEFAULT_IMAGES,
    images_from: Sequence[str | os.PathLike[str]] = (),
    subject: Subjects = None,
    berg_dir: str | os.PathLike[str] | None = None,
) -> Path:
    """Write one page to look at: responses, or the accuracy of a model.

    The page is a single HTML file that opens in any browser, without a network.

    Parameters
    ----------
    what : path-like, str, Responses or SavedResponses
        A ``.npz`` of `berg encode`, a store of `berg encode --store`, responses in memory, or the
        id of a model.
    out : path-like, default "report.html"
        Ends in ``.html``. A file of this name is replaced.
    images : int, or sequence of int and str, default 10
        Of responses: how many images to show, from the first, or which, by place or by name; a
        number in text is a name first, then a place. 100 at most.
    images_from : sequence of path-like
        Of responses: where the photographs are, as `berg encode` takes sources. By default they
        are looked for under their names in the folder of the responses and in the working folder.
    subject : int or iterable of int, optional
        Which of a store's, or of a model's. One of a store; of a model by default all whose
        metadata are in `berg_dir`.
    berg_dir : path-like, optional
        Where the subject's regions and accuracy are, as for `berg.BERG`.

    Returns
    -------
    Path
        Of the page.

    Raises
    ------
    InvalidParameterError
        If `what` is none of these, an option does not go with it, an image or a subject is not
        there, or there is nothing to show.
    FileNotFoundError
        If a path does not exist.
    FileFormatError
        If a file is damaged.
    MetadataNotFoundError
        If a model's metadata are not in berg_dir; the message says how to get them.
    MissingExtraError
        If jinja2, matplotlib or nilearn is not installed.
    ResourceError
        If the page cannot be written.
    """
    path = check_can_write(out)
    berg = BERG(berg_dir)
    if isinstance(what, str) and what in catalog.load_cards():
        if not (isinstance(images, int) and images == DEFAULT_IMAGES) or images_from:
            raise InvalidParameterError(
                "images are chosen of responses, not of a model",
                got=f"images of {what}",
                accepted="a .npz or a store, or a model without images",
                do="leave images and images_from out",
            )
        page = _page_of_model(what, subject, berg)
    else:
        page = responses_page(_shown(what, images, subject, berg), images_from, berg.berg_dir)
    with write_atomically(path) as file:
        # Half a character, as names of files and damaged texts can have, is no UTF-8: it is shown
        # by its number.
        file.write(page.encode("utf-8", "backslashreplace"))
    return path


def check_can_write(out: str | os.PathLike[str]) -> Path:
    """Return the path if a page can be written under it: asked before the work.

    Raises
    ------
    MissingExtraError
        If jinja2, matplotlib or nilearn is not installed.
    InvalidParameterError
        If it does not end in ``.html`` or is a folder.
    ResourceError
        If its folder cannot be written to.
    """
    check_installed()
    return check_output_path(out, "a report", ".html", ".htm")


def _page_of_model(model_id: str, subject: Subjects, berg: BERG) -> str:
    card = catalog.load_cards()[model_id]
    if subject is None:
        subjects = [each for each in card.subjects if berg.has_metadata(model_id, each)]
        subjects = subjects or [card.subjects[0]]  # whose absence an error then tells of
    else:
        subjects = list_subjects(subject)
        if not subjects:
            raise InvalidParameterError(
                "no subject is given", got="an empty list", accepted="one subject or more"
            )
    return model_page(
        card, {each: berg.get_model_metadata(model_id, each) for each in dict.fromkeys(subjects)}
    )


def _shown(
    what: str | os.PathLike[str] | Responses | SavedResponses,
    images: Images,
    subject: Subjects,
    berg: BERG,
) -> ShownResponses:
    match what:
        case str() | os.PathLike():
            return choose_from_path(Path(what), images, subject, berg)
        case Responses():
            refuse_subject(subject, repr(what))
            return choose_lazy(what, images)
        case SavedResponses():
            refuse_subject(subject, "what is in memory")
            return choose_saved(what, images, berg)
    raise InvalidParameterTypeError(
        "this is nothing to report on",
        got=f"{type(what).__name__}",
        accepted="a .npz of responses, a store, responses in memory, or the id of a model",
        do='for example write_report("responses.npz")',
    )
