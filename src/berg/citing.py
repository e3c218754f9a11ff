"""What to cite for a model: as text, and as BibTeX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from berg import __version__
from berg.catalog import ModelCard

_MOST_AUTHORS = 8  # of longer lists the first is named, with "et al."
_BIBTEX_KINDS = {
    "article": "article",
    "proceedings": "inproceedings",
    "preprint": "misc",
    "software": "misc",
    "unpublished": "unpublished",
}
_VENUES = {"article": "journal", "proceedings": "booktitle", "preprint": "howpublished"}
_BERG = {
    "key": "berg",
    "for": "this program",
    "kind": "software",
    "authors": ["{The berg developers}"],
    "year": 2026,
    "title": "berg: in silico fMRI with the Brain Encoding Response Generator's models",
    "note": f"Version {__version__}",
}


def list_citations(card: ModelCard) -> list[Mapping[str, Any]]:
    """Return what to cite for a model: this program, and what the model is made of.

    Parameters
    ----------
    card : ModelCard

    Returns
    -------
    list of mapping
        As the card has them: ``key``, ``for``, ``kind``, ``authors`` ("Family, Given"), ``year``,
        ``title``, and where there are any ``venue``, ``volume``, ``pages``, ``note``, ``doi``,
        ``url``.
    """
    return [_BERG, *card.facts["citations"]]


def as_text(citation: Mapping[str, Any]) -> str:
    """Return a citation as a line of a list of references.

    Examples
    --------
    >>> as_text({"authors": ["Doe, Jane A.", "Roe, R."], "year": 2020, "title": "On brains",
    ...          "venue": "Journal", "volume": 7, "pages": "1-9", "doi": "10.1/x"})
    'Doe, J. A., & Roe, R. (2020). On brains. Journal, 7, 1-9. https://doi.org/10.1/x'
    """
    where = ", ".join(
        str(citation[part]) for part in ("venue", "volume", "pages", "note") if part in citation
    )
    link = f"https://doi.org/{citation['doi']}" if "doi" in citation else citation.get("url", "")
    title = f"{citation['title']}."
    return " ".join(
        part
        for part in (
            f"{_authors(citation['authors'])} ({citation['year']}).",
            title,
            where and f"{where}.",
            link,
        )
        if part
    )


def as_bibtex(citation: Mapping[str, Any]) -> str:
    """Return a citation as an entry for BibTeX."""
    kind = citation["kind"]
    fields = {
        "author": " and ".join(citation["authors"]),
        "title": f"{{{citation['title']}}}",  # in braces twice: its capitals stay
        "year": citation["year"],
        _VENUES.get(kind, "howpublished"): citation.get("venue"),
        **{name: citation.get(name) for name in ("volume", "pages", "note", "doi", "url")},
    }
    lines = [
        f"  {name} = {{{str(value).replace('–', '--')}}},"
        for name, value in fields.items()
        if value is not None
    ]
    return "\n".join([f"@{_BIBTEX_KINDS[kind]}{{{citation['key']},", *lines, "}"])


def _authors(names: Sequence[str]) -> str:
    shown = [_initials(name) for name in names]
    if len(shown) > _MOST_AUTHORS:
        return f"{shown[0]}, et al."
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])}, & {shown[-1]}"


def _initials(name: str) -> str:
    """Shorten given names: "Gifford, Alessandro T." to "Gifford, A. T."."""
    family, comma, given = name.partition(", ")
    if not comma:
        return name.strip("{}")
    initials = [
        "-".join(f"{part[0]}." for part in word.split("-") if part) for word in given.split()
    ]
    return f"{family}, {' '.join(initials)}"
