"""Responses that are kept as scores, and computed where they are asked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from berg.errors import InvalidParameterError
from berg.responses.coarser import How, coarser_readout
from berg.responses.image_maps import UNITS, write_image_maps
from berg.responses.maps import SurfaceMap
from berg.responses.npz import SavedResponses, check_output_path, save_responses
from berg.responses.ranking import DrivingImages, rank_images
from berg.responses.rdm import Metric, rdm
from berg.responses.readout import HEMISPHERES, Hemisphere
from berg.responses.rows import read_rows
from berg.responses.selectable import Roi, SelectableResponses
from berg.responses.statistics import (
    mean_responses,
    mean_scores,
    moments,
    response_to,
    response_variance,
)

if TYPE_CHECKING:
    import xarray

VARIANCE_UNITS = "z²"


class Responses(SelectableResponses):
    """In silico fMRI responses of a subject to images, computed where they are asked for.

    All responses of an image follow from its *scores*, 250 numbers, and the model's readout. Means,
    variances and dissimilarities are computed from the scores too, in float64, without the
    responses. Nothing here changes once it is made: every selection gives new `Responses`, which
    share the scores and the readout.

    An image without scores, one that could not be read, has NaN responses. It makes means and
    variances over images NaN; leave it out by selection.

    Parameters
    ----------
    scores : numpy.ndarray or LazyScores of float32, shape (n_images, n_components)
        A float32 array is kept without a copy: do not change it afterwards. Lazy scores, those of
        a store, are read block by block and never all at once.
    readout : Readout, or callable that returns one
        A callable is called when the readout is first needed, once.
    names : sequence of str, optional
        One name an image; also a generator, or a dict for its keys. Without names, images are
        called "0", "1", "2" by their places here, and keep these names when they are selected.
    regions : Regions, optional
        The subject's regions of interest, for `roi`.
    provenance : mapping, optional
        As `EncodingModel.provenance` returns it.
    mesh : str, default "fsaverage"
        The mesh that the readout's vertices are of.

    Raises
    ------
    InvalidParameterTypeError, InvalidParameterError
        If scores, names and readout do not fit together.

    Examples
    --------
    >>> from berg.responses import Readout
    >>> rng = np.random.default_rng(0)
    >>> coef, vertices = rng.standard_normal((4, 3), np.float32), np.arange(4)
    >>> readout = Readout(coef, coef[:, 0], coef, coef[:, 0], vertices, vertices)
    >>> scores = rng.standard_normal((5, 3), np.float32)
    >>> responses = Responses(scores, readout, names=["cat", "dog", "face", "house", "tree"])
    >>> responses
    <Responses 5 images, 4 + 4 vertices, fsaverage>
    >>> responses[["cat", "dog"]].lh[:, 2].shape
    (2,)
    >>> lh, rh = responses.contrast("face", ["house", "tree"])
    >>> responses.rdm().shape
    (5, 5)
    """

    def map(self, image: int | str) -> SurfaceMap:
        """Return the responses to one image as a map.

        Parameters
        ----------
        image : int or str
            Its place or its name.

        Returns
        -------
        SurfaceMap
            In z-scored units, under the image's name.

        Raises
        ------
        InvalidParameterError
            If there is no such image, or this does not select one.
        """
        places = self._names.find(image)
        if len(places) != 1:
            raise InvalidParameterError(
                "a map shows one image",
                got=f"{image!r}: {len(places)} images"[:200],
                accepted="the place or the name of an image",
                do="for the mean of several images: responses[images].mean_over_images()",
            )
        scores = read_rows(self._scores, places)[0].astype(np.float64)
        return self._map(self._names.take(places).all[0], scores)

    def _map(self, name: str, scores: NDArray[np.float64], *, intercept: bool = True) -> SurfaceMap:
        lh, rh = (
            response_to(self.readout, hemi, scores, intercept=intercept) for hemi in HEMISPHERES
        )
        return self._surface_map(lh, rh, name, UNITS)

    def _surface_map(
        self, lh: NDArray[np.float32], rh: NDArray[np.float32], name: str, units: str
    ) -> SurfaceMap:
        for values in (lh, rh):
            values.flags.writeable = False
        return SurfaceMap(
            lh=lh,
            rh=rh,
            lh_vertices=self.lh_vertices,
            rh_vertices=self.rh_vertices,
            name=name,
            units=units,
            mesh=self._mesh,
            provenance=self.provenance,
        )

    def mean_over_vertices(
        self, roi: Roi | None = None, hemisphere: Hemisphere | None = None
    ) -> NDArray[np.float32]:
        """Return the mean response of a region to every image.

        Parameters
        ----------
        roi : str or sequence of str, optional
            All vertices by default.
        hemisphere : {"lh", "rh"}, optional
            Both by default: the mean over all their vertices, not the mean of two means.

        Returns
        -------
        numpy.ndarray of float32, shape (n_images,)
            In z-scored units; NaN if there are no vertices.

        Raises
        ------
        InvalidParameterError
            As `roi` and `hemisphere` raise it.
        """
        part = self._part(roi, hemisphere)
        means = mean_responses(part.readout, part.scores)
        return np.concatenate([np.empty(0, np.float32), *means])

    def mean_over_images(self) -> SurfaceMap:
        """Return the mean response of every vertex over images.

        Returns
        -------
        SurfaceMap
            In z-scored units; NaN if there are no images.
        """
        return self._map(f"mean over {self._called()}", mean_scores(self._scores))

    def variance_over_images(self, ddof: int = 0) -> SurfaceMap:
        """Return the variance of every vertex's response over images.

        Parameters
        ----------
        ddof : int, default 0
            The sum of squares is divided by ``n_images - ddof``.

        Returns
        -------
        SurfaceMap
            In squared z-scored units. Never negative; NaN if ``n_images - ddof`` is not positive.

        Raises
        ------
        InvalidParameterError
            If `ddof` is not a whole number of 0 or more.
        """
        if not isinstance(ddof, int | np.integer) or isinstance(ddof, bool) or ddof < 0:
            raise InvalidParameterError(
                "ddof is not a number of degrees of freedom",
                got=f"ddof={ddof!r}",
                accepted="0, 1 or more",
                do="ddof=0 divides by the number of images, ddof=1 by one less",
            )
        of = moments(self._scores)
        lh, rh = (response_variance(self.readout, hemi, of, int(ddof)) for hemi in HEMISPHERES)
        name = f"variance over {self._called()}"
        return self._surface_map(lh, rh, name, VARIANCE_UNITS)

    def contrast(self, images: Any, baseline: Any) -> SurfaceMap:
        """Return the mean response to some images minus that to others.

        Parameters
        ----------
        images, baseline : slice, int, str, or list or array of int, bool or str
            Whatever selects images: places, a mask, names.

        Returns
        -------
        SurfaceMap
            In z-scored units; NaN if there are no images on either side.

        Raises
        ------
        InvalidIndexError, InvalidParameterError
            If either selects no images.
        """
        of, minus = self[images], self[baseline]
        return self._map(
            f"{of._called()} minus {minus._called()}",
            mean_scores(of.scores) - mean_scores(minus.scores),
            intercept=False,
        )

    def _called(self) -> str:
        return self.names[0] if self.n_images == 1 else f"{self.n_images} images"

    def rdm(self, roi: Roi | None = None, metric: Metric = "correlation") -> NDArray[np.float64]:
        """Return the dissimilarity of the response patterns to every two images.

        Parameters
        ----------
        roi : str or sequence of str, optional
            All vertices by default. The vertices of both hemispheres are one pattern.
        metric : {"correlation", "euclidean"}
            1 minus Pearson's correlation over vertices, or the Euclidean distance in z-scored
            units.

        Returns
        -------
        numpy.ndarray of float64, shape (n_images, n_images)
            Symmetric, zero on the diagonal. NaN where the correlation is undefined, as a pattern
            does not vary over vertices; see `berg.responses.rdm.rdm`.

        Raises
        ------
        InvalidParameterError
            If there is no such region or metric.
        ResourceError
            If the matrix does not fit into memory.
        """
        if roi is None:
            return rdm(self.readout.gram(), self._scores, metric)
        selection, lh_rows, rh_rows = self._find_region([roi])
        gram = self.readout.gram(selection.rois, lh_rows, rh_rows)
        return rdm(gram, self._scores, metric)

    def driving_images(self, roi: Roi | None = None, n: int = 10) -> DrivingImages:
        """Find the images that drive a region most and least, by its mean response.

        Parameters
        ----------
        roi : str or sequence of str, optional
            All vertices by default. The mean is over all of its vertices in both hemispheres.
        n : int, default 10
            How many images to find at either end; all if there are fewer.

        Returns
        -------
        DrivingImages
            With `most` and `least`; each has `indices`, `names` and `values`, the extreme image
            first. Images whose mean is NaN are in neither.

        Raises
        ------
        InvalidParameterError
            If there is no such region, or `n` is not a positive number.
        """
        if not isinstance(n, int | np.integer) or isinstance(n, bool) or n < 1:
            raise InvalidParameterError(
                "n is not a number of images", got=f"n={n!r}", accepted="1 or more", do="n=10"
            )
        part = self._part(roi)
        return rank_images(mean_responses(part.readout, part.scores), part._names, int(n))

    def to_fsaverage5(self, how: How = "slice") -> Responses:
        """Return the responses of fsaverage5's vertices, 10,242 a hemisphere.

        Parameters
        ----------
        how : {"slice", "mean"}
            ``"slice"`` takes the vertices that fsaverage5 has; ``"mean"`` averages those around.

        Returns
        -------
        Responses
            As lazy as these.

        Raises
        ------
        InvalidParameterError
            If the mesh is not finer, or there is no such way.
        """
        return self._coarser("fsaverage5", how)

    def to_fsaverage6(self, how: How = "slice") -> Responses:
        """Return the responses of fsaverage6's vertices, 40,962 a hemisphere.

        As `to_fsaverage5`.
        """
        return self._coarser("fsaverage6", how)

    def _coarser(self, mesh: str, how: How) -> Responses:
        readout = coarser_readout(self.readout, mesh, how, from_mesh=self._mesh)
        return self._derived(
            readout=self._loaded(readout),
            mesh=mesh,
            provenance=self._provenance | {"mesh": mesh, "coarser_by": how},
        )

    def to_xarray(self) -> xarray.Dataset:
        """Return the responses with named dimensions, still lazy; see `berg.responses.arrays`."""
        from berg.responses.arrays import to_xarray

        return to_xarray(self)

    def to_zarr(
        self, path: str | os.PathLike[str], dtype: str = "float32", *, show_progress: bool = True
    ) -> Path:
        """Write all responses to a Zarr folder; see `berg.responses.arrays.write_zarr`."""
        from berg.responses.arrays import write_zarr

        return write_zarr(self, path, dtype, show_progress=show_progress)

    def to_gifti(
        self, folder: str | os.PathLike[str], *, show_progress: bool = True
    ) -> list[tuple[Path, Path]]:
        """Write a pair of GIFTI files for each image; see `berg.responses.image_maps`."""
        return write_image_maps(self, folder, "gifti", show_progress=show_progress)

    def to_mgh(
        self, folder: str | os.PathLike[str], *, show_progress: bool = True
    ) -> list[tuple[Path, Path]]:
        """Write a pair of MGH files for each image; see `berg.responses.image_maps`."""
        return write_image_maps(self, folder, "mgh", show_progress=show_progress)

    def to_npz(self, path: str | os.PathLike[str]) -> Path:
        """Compute all responses and write them to a `.npz`, which `load_responses` reads.

        Parameters
        ----------
        path : path-like
            Ends in ``.npz``.

        Returns
        -------
        Path

        Raises
        ------
        InvalidParameterError
            If the path does not end in ``.npz``.
        ResourceError
            If the responses do not fit into memory, or the file cannot be written.
        """
        check_output_path(path)
        lh, rh = self.compute()
        saved = SavedResponses(
            lh, rh, self.lh_vertices, self.rh_vertices, self.names, self.provenance
        )
        return save_responses(path, saved)
