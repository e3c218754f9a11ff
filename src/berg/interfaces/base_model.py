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
        """Return the in silico responses to a batch of stimuli.

        Parameters
        ----------
        stimulus : numpy.ndarray
            For images: integers in 0-255, shape (n_images, 3, height, width).
        show_progress : bool, default True
            Whether to show a progress bar.

        Returns
        -------
        Depends on the model. For fMRI of both hemispheres: a tuple of two float32 arrays of
        shapes (n_images, n_lh_vertices) and (n_images, n_rh_vertices), in z-scored units.

        Raises
        ------
        StimulusError
            If the stimulus is not one that the model takes.
        ModelLoadError
            If the model was cleaned up.
        """

    @abstractmethod
    def get_metadata(self) -> dict[str, Any]:
        """Return the metadata of the model, as its card lists them.

        Raises
        ------
        MetadataNotFoundError
            If there are none.
        """

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
