"""Import path of the existing toolkit: ``from berg.core.berg import BERG``."""

from berg.toolkit import BERG

__all__ = ["BERG"]
