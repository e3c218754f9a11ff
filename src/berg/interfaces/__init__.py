"""Import path of the existing toolkit: ``from berg.interfaces import BaseModelInterface``."""

from berg.interfaces.base_model import BaseModelInterface

__all__ = ["BaseModelInterface"]
