"""What to cite: every model's card says it, as text and as BibTeX."""

import re

import pytest
from click.testing import CliRunner

from berg.catalog import load_cards
from berg.citing import as_bibtex, as_text, list_citations
from berg.cli import main

CITATIONS = [(card, each) for card in load_cards().values() for each in list_citations(card)]


@pytest.mark.parametrize(("card", "citation"), CITATIONS, ids=lambda each: getattr(each, "key", ""))
def test_every_citation_has_what_finds_it(card, citation):
    assert {"key", "for", "kind", "authors", "year", "title"} <= citation.keys()
    assert citation["key"] == "berg" or {"doi", "url"} & citation.keys()
    text, entry = as_text(citation), as_bibtex(citation)
    assert citation["title"] in text
    assert re.match(r"@\w+\{\w+,\n", entry)
    assert entry.count("{") == entry.count("}")
    assert entry.endswith("},\n}")
    for part in ("title", "year", "author"):
        assert len(re.findall(rf"^  {part} = ", entry, re.M)) == 1


def test_long_lists_of_authors_are_cut_in_text_alone():
    (nsd,) = (each for _, each in CITATIONS if each["key"] == "allen2022nsd")
    assert as_text(nsd).startswith("Allen, E. J., et al. (2022).")
    assert as_bibtex(nsd).count(" and ") == len(nsd["authors"]) - 1 + nsd["title"].count(" and ")
    assert "pages = {116--126}" in as_bibtex(nsd)


def test_the_command_prints_all_of_them():
    told = CliRunner().invoke(main, ["cite"]).output
    assert all(citation["title"] in told for _, citation in CITATIONS)
    told = CliRunner().invoke(main, ["cite", "--bibtex"]).output
    assert told.count("@") == len(CITATIONS)


def test_a_misspelt_model_is_told():
    result = CliRunner().invoke(main, ["cite", "fmri-nsd_fsaverage-alexnet_untrainedd"])
    assert result.exit_code == 1
    assert "Did you mean" in result.output
