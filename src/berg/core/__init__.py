"""Import paths of the existing toolkit: ``berg.core.BERG``, ``berg.core.exceptions``."""

from berg.toolkit import BERG

__all__ = ["BERG"]
