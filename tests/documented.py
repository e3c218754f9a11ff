"""What the documents show: their blocks of code, and what they say comes out."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def section(document: str, title: str | None = None) -> str:
    """A document's text, or one section of it without its heading."""
    text = (ROOT / document).read_text(encoding="utf-8")
    if title is None:
        return text
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, f"{document} has no section {title}"
    return found[1]


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def outputs(code: str) -> list[str]:
    """The lines that a block says it prints: comments on lines of their own."""
    return re.findall(r"^# (.*)$", code, re.MULTILINE)
