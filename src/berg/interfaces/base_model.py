"""What every encoding model can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self

import numpy as np


class BaseModelInterface(ABC):
    """A loaded encoding model: stimuli in, in silico neural responses out.

    Usable as a context manager, which frees the model's memory on the way out.
    """

    @abstractmethod
    def generate_response(self, stimulus: np.ndarray, show_progress: bool = True) -> Any:
        """Return the in silico responses to a batch of stimuli."""

    @abstractmethod
    def get_metadata(self) -> dict[str, Any]:
        """Return the metadata of the model."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Print the model's card and return it as a dict."""

    @abstractmethod
    def cleanup(self) -> None:
        """Free the memory that the model holds. It cannot generate responses afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.cleanup()
