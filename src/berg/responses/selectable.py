"""What responses are of: images and vertices, and selections of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy, deepcopy
from typing import TYPE_CHECKING, Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from berg.errors import InvalidParameterError, InvalidParameterTypeError
from berg.responses.coverage import rows_of_region
from berg.responses.hemisphere import HemisphereResponses
from berg.responses.images import ImageNames, check_names
from berg.responses.memory import allocate, check_memory
from berg.responses.meshes import FULL_MESH, mesh_level
from berg.responses.readout import HEMISPHERES, Hemisphere, LazyReadout, Readout
from berg.responses.rows import LazyScores, Scores, check_scores, select_rows

if TYPE_CHECKING:
    from berg.selection import Regions, Selection

Roi = str | Sequence[str]


class SelectableResponses:
    """Responses without their statistics; see `berg.responses.Responses`, which is made of it."""

    def __init__(
        self,
        scores: NDArray[np.float32] | LazyScores,
        readout: Readout | Callable[[], Readout],
        *,
        names: Sequence[str] | None = None,
        regions: Regions | None = None,
        provenance: Mapping[str, Any] | None = None,
        mesh: str = FULL_MESH,
    ) -> None:
        mesh_level(mesh)  # refuses what is no mesh
        self._scores = check_scores(scores)
        n_images, n_components = self._scores.shape
        self._names = ImageNames(check_names(names, n_images), range(n_images))
        self._readout = LazyReadout(readout, n_components)
        self._regions = regions
        self._provenance = deepcopy(dict(provenance or {}))
        self._mesh = mesh
        self._left_out: frozenset[Hemisphere] = frozenset()

    def _derived(self, **changes: Any) -> Self:
        derived = copy(self)
        derived.__dict__.update({f"_{name}": value for name, value in changes.items()})
        return derived

    def _loaded(self, readout: Readout) -> LazyReadout:
        return LazyReadout(readout, self._scores.shape[1])

    @property
    def scores(self) -> Scores:
        """Scores of the images, float32, shape (n_images, n_components): an array, or lazy."""
        return self._scores

    @property
    def readout(self) -> Readout:
        """What turns the scores into responses of the vertices; loaded when it is first needed."""
        return self._readout.load()

    @property
    def n_images(self) -> int:
        """Number of images."""
        return self._scores.shape[0]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the images, in order."""
        return self._names.all

    @property
    def mesh(self) -> str:
        """The mesh of the vertices: ``"fsaverage"``, or a coarser one."""
        return self._mesh

    @property
    def regions(self) -> Regions | None:
        """The subject's regions of interest, where they are known."""
        return self._regions

    @property
    def provenance(self) -> dict[str, Any]:
        """What made the responses, as `EncodingModel.provenance` returns it: a copy."""
        return deepcopy(self._provenance)

    @property
    def lh_vertices(self) -> NDArray[np.int64]:
        """Left-hemisphere vertices of the columns of `lh`, int64, shape (n_lh,)."""
        return self.readout.lh_vertices

    @property
    def rh_vertices(self) -> NDArray[np.int64]:
        """Right-hemisphere vertices of the columns of `rh`, int64, shape (n_rh,)."""
        return self.readout.rh_vertices

    @property
    def lh(self) -> HemisphereResponses:
        """Responses of the left hemisphere, a lazy array of shape (n_images, n_lh)."""
        return self._of("lh")

    @property
    def rh(self) -> HemisphereResponses:
        """Responses of the right hemisphere, a lazy array of shape (n_images, n_rh)."""
        return self._of("rh")

    def _of(self, hemi: Hemisphere) -> HemisphereResponses:
        readout = self.readout
        return HemisphereResponses(self._scores, readout.coef(hemi), readout.intercept(hemi))

    def __len__(self) -> int:
        return self.n_images

    def __iter__(self) -> NoReturn:
        """Refuse ``lh, rh = responses``, which would take two images for two hemispheres."""
        raise InvalidParameterTypeError(
            "responses are neither two arrays nor a sequence",
            got=repr(self),
            do="lh, rh = responses.compute(), or responses.lh[images, vertices]; "
            "for each image: responses.map(i)",
        )

    def __array__(self, *_: object, **__: object) -> NoReturn:
        """Refuse to be one array: there are two hemispheres."""
        iter(self)

    def __getitem__(self, images: Any) -> Self:
        """Select images.

        Parameters
        ----------
        images : slice, int, str, or list or array of int, bool or str
            Places (0-based), a mask with an entry an image, or names. An int or a name selects
            one image, and gives responses to one image.

        Returns
        -------
        Responses

        Raises
        ------
        InvalidIndexError
            If a place is out of bounds, or this selects no images.
        InvalidParameterError
            If no image has such a name, or several have it.
        """
        places = self._names.find(images)
        return self._derived(
            scores=select_rows(self._scores, places), names=self._names.take(places)
        )

    def roi(self, *names: Roi) -> Self:
        """Select the vertices of a region of interest, or of the union of several.

        On a coarser mesh a region is those of its vertices that the mesh has.

        Parameters
        ----------
        *names : str or sequence of str
            As the model's card calls them: ``roi("V1v")``, ``roi("V1v", "V1d")``.

        Returns
        -------
        Responses
            Vertices ascend.

        Raises
        ------
        InvalidParameterTypeError, InvalidParameterError
            If there is no such region, or these responses do not have all of its vertices. A
            hemisphere that was left out with `hemisphere` is left out of the region too.

        Warns
        -----
        BERGWarning
            If a region is empty in this subject, or a coarser mesh has none of its vertices.
        """
        selection, lh, rh = self._find_region(names)
        return self._derived(
            readout=self._loaded(self.readout.take(lh, rh)),
            provenance=self._provenance | {"rois": list(selection.rois)},
        )

    def _find_region(
        self, names: Sequence[Roi]
    ) -> tuple[Selection, NDArray[np.int64], NDArray[np.int64]]:
        """Return the union of regions, and its rows of the readout."""
        if self._regions is None:
            raise InvalidParameterError(
                "these responses do not know the subject's regions of interest",
                got="responses without regions",
                accepted="responses of a loaded model or of a store",
                do="give Responses(..., regions=model.regions)",
            )
        wanted = [each for name in names for each in ([name] if isinstance(name, str) else name)]
        selection = self._regions.select(wanted)
        lh, rh = rows_of_region(selection, self.readout, mesh=self._mesh, left_out=self._left_out)
        return selection, lh, rh

    def hemisphere(self, hemisphere: Hemisphere) -> Self:
        """Leave the other hemisphere out.

        Parameters
        ----------
        hemisphere : {"lh", "rh"}

        Returns
        -------
        Responses
            With no vertices in the other hemisphere.

        Raises
        ------
        InvalidParameterError
            If it is neither.
        """
        if hemisphere not in HEMISPHERES:
            raise InvalidParameterError(
                f"there is no hemisphere {hemisphere!r}",
                got=f"hemisphere={hemisphere!r}",
                accepted="'lh' or 'rh'",
                do="leave it out for both",
            )
        everything, nothing = slice(None), slice(0, 0)
        left = hemisphere == "lh"
        readout = self.readout.take(
            everything if left else nothing, nothing if left else everything
        )
        return self._derived(
            readout=self._loaded(readout),
            left_out=self._left_out | ({"rh"} if left else {"lh"}),
        )

    def _part(self, roi: Roi | None, hemisphere: Hemisphere | None = None) -> Self:
        part = self if hemisphere is None else self.hemisphere(hemisphere)
        return part if roi is None else part.roi(roi)

    def compute(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Compute all responses.

        Returns
        -------
        lh, rh : numpy.ndarray of float32, shapes (n_images, n_lh), (n_images, n_rh)
            In z-scored units.

        Raises
        ------
        ResourceError
            If they do not fit into memory.
        """
        what = f"all responses to {self.n_images} images"
        do = "select images or a region first, or write them to disk: responses.to_zarr(path)"
        check_memory(self.lh.nbytes + self.rh.nbytes, what, do)
        lh, rh = (allocate(each.shape, np.float32, what, do) for each in (self.lh, self.rh))
        self.lh.compute_into(lh)
        self.rh.compute_into(rh)
        return lh, rh

    def __repr__(self) -> str:
        vertices = "readout not loaded yet"
        if self._readout.is_loaded:
            vertices = f"{len(self.lh_vertices)} + {len(self.rh_vertices)} vertices"
        parts = [f"{self.n_images} images", vertices, self._mesh]
        if "subject" in self._provenance:
            parts.append(f"subject {self._provenance['subject']}")
        if self._provenance.get("simulated"):
            parts.append("SIMULATED")
        return f"<Responses {', '.join(parts)}>"
