"""The images that the subjects saw, read from HDF5 a few at a time."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np
import numpy.typing as npt

from berg.errors import FileFormatError, InvalidParameterError, InvalidParameterTypeError
from berg.layout import NSDFiles
from berg.nsd.missing import ACCESS, GET_AGAIN, check_is_file
from berg.stimuli import gamma_corrected

Images = npt.NDArray[np.uint8]

_DATASET = "imgBrick"
# What h5py raises for files that are damaged, by what part of them is.
_H5PY_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)


class StoredImages:
    """Images of one or more HDF5 files, numbered from 0 through all of them.

    The files are open until `close`, or the end of a ``with`` block.

    Parameters
    ----------
    *paths : Path
        Files with a dataset ``imgBrick`` of shape (n, height, width, 3), uint8.

    Attributes
    ----------
    n_images, height, width : int

    Raises
    ------
    NSDFilesNotFoundError
        If a file does not exist.
    FileFormatError
        If one is not HDF5, is truncated, or has no such dataset; or if images differ in size.
    """

    def __init__(self, *paths: Path) -> None:
        with ExitStack() as opening:  # closes what is open if a later file is not as it should be
            self._bricks = [opening.enter_context(_Brick(path)) for path in paths]
            first = self._bricks[0]
            self.height, self.width = first.size
            for brick in self._bricks:
                if brick.size != first.size:
                    raise FileFormatError(
                        f"{brick.path} has images of another size than {first.path.name}",
                        got="{}×{} pixels".format(*brick.size),
                        accepted=f"{self.height}×{self.width}",
                        do=ACCESS,
                    )
            self._files = opening.pop_all()
        self._starts = np.cumsum([0] + [brick.n_images for brick in self._bricks])
        self.n_images = int(self._starts[-1])

    def read(self, ids: npt.ArrayLike) -> Images:
        """Read images, each from the file once.

        Parameters
        ----------
        ids : (n,) int
            0-based, in any order; an image may be asked for more than once.

        Returns
        -------
        (n, 3, height, width) uint8
            In C order.

        Raises
        ------
        InvalidParameterTypeError, InvalidParameterError
            If `ids` are not whole numbers, or one has no image.
        FileFormatError
            If an image cannot be read.
        """
        wanted, inverse = np.unique(self._checked(ids), return_inverse=True)
        out = np.empty((len(inverse), 3, self.height, self.width), np.uint8)
        image = np.empty((self.height, self.width, 3), np.uint8)
        for i_wanted, img_num in enumerate(wanted.tolist()):
            i_brick = int(np.searchsorted(self._starts, img_num, side="right")) - 1
            self._bricks[i_brick].read_into(image, img_num - int(self._starts[i_brick]))
            out[inverse == i_wanted] = image.transpose(2, 0, 1)
        return out

    def close(self) -> None:
        """Close the files."""
        self._files.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _checked(self, ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
        numbers = np.asarray(ids)
        if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
            raise InvalidParameterTypeError(
                "ids of images are not whole numbers",
                got=f"{numbers.dtype} of shape {numbers.shape}",
                accepted="integers of shape (n,)",
            )
        outside = [n for n in numbers.tolist() if not 0 <= n < self.n_images]
        if outside:
            raise InvalidParameterError(
                f"there is no image {outside[0]} in {self._bricks[0].path.name}",
                got=f"{len(outside)} of {len(numbers)} ids without an image",
                accepted=f"0 to {self.n_images - 1}",
            )
        return numbers.astype(np.int64)


class CoreImages(StoredImages):
    """The images of NSD-core, by 0-based 73k id.

    Parameters
    ----------
    files : NSDFiles
    """

    def __init__(self, files: NSDFiles) -> None:
        super().__init__(files.stimuli)


class SyntheticImages(StoredImages):
    """The images of NSD-synthetic, as a subject saw them: with the gamma of their display.

    Parameters
    ----------
    files : NSDFiles
    subject : int
        Counted from 1. The images that all subjects saw are followed by those whose colours
        were made for this subject.

    Attributes
    ----------
    n_shared : int
        Images that all subjects saw.
    """

    def __init__(self, files: NSDFiles, subject: int) -> None:
        super().__init__(files.synthetic_stimuli, files.synthetic_colour_stimuli(subject))
        self.n_shared = self._bricks[0].n_images

    def read(self, ids: npt.ArrayLike) -> Images:
        """Read images as `StoredImages.read`, gamma-corrected."""
        return gamma_corrected(super().read(ids))


class _Brick:
    """The dataset of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        check_is_file(path)
        with ExitStack() as opening:  # closes the file if it is not as it should be
            try:
                file = opening.enter_context(h5py.File(path, "r"))
                dataset = file.get(_DATASET)
                there = ", ".join(map(repr, list(file)[:12])) or "nothing"
            except _H5PY_ERRORS as err:
                raise self._unfit(str(err), "a whole HDF5 file") from err
            if not isinstance(dataset, h5py.Dataset):
                raise self._unfit(f"no {_DATASET}, but {there}", f"a dataset {_DATASET}")
            shape = dataset.shape
            fits = len(shape) == 4 and shape[3] == 3 and min(shape[1:3]) > 0
            if not fits or dataset.dtype != np.uint8:
                raise self._unfit(
                    f"{_DATASET} of shape {shape}, {dataset.dtype}",
                    "(n_images, height, width, 3), uint8, of one pixel or more",
                )
            opening.pop_all()
        self._file = file
        self._dataset = dataset
        self.n_images: int = dataset.shape[0]
        self.size: tuple[int, int] = dataset.shape[1:3]

    def read_into(self, image: Images, index: int) -> None:
        """Read one image, (height, width, 3)."""
        try:
            self._dataset.read_direct(image, np.s_[index])
        except _H5PY_ERRORS as err:
            raise self._unfit(f"image {index}: {err}", "images that can be read") from err

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _unfit(self, got: str, accepted: str) -> FileFormatError:
        return FileFormatError(
            f"{self.path} is not a file of NSD's images", got=got, accepted=accepted, do=GET_AGAIN
        )
