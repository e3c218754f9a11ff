"""Checks that weights are whole, of the model asked for, and finite; each fails by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from berg.errors import BERGError
from berg.pickles.quoting import listed, shown
from berg.pickles.stored_array import StoredArray

# Every array that inference reads, with its axes.
AXES: dict[tuple[str, str], tuple[str, ...]] = {
    ("scaler_param", "scale_"): ("n_features",),
    ("scaler_param", "mean_"): ("n_features",),
    ("pca_param", "components_"): ("n_components", "n_features"),
    ("pca_param", "mean_"): ("n_features",),
    ("lh_reg_param", "coef_"): ("n_vertices", "n_components"),
    ("lh_reg_param", "intercept_"): ("n_vertices",),
    ("rh_reg_param", "coef_"): ("n_vertices", "n_components"),
    ("rh_reg_param", "intercept_"): ("n_vertices",),
}
# Every number in which a part says its own size.
SIZES: dict[tuple[str, str], str] = {
    ("scaler_param", "n_features_in_"): "n_features",
    ("pca_param", "n_features_in_"): "n_features",
    ("pca_param", "n_components_"): "n_components",
    ("lh_reg_param", "n_features_in_"): "n_components",
    ("rh_reg_param", "n_features_in_"): "n_components",
}


@dataclass(frozen=True)
class WeightSizes:
    """The sizes that a model's card promises.

    Parameters
    ----------
    n_features, n_components : int
    n_vertices : int
        Of one hemisphere.
    """

    n_features: int
    n_components: int
    n_vertices: int


@dataclass(frozen=True)
class WeightChecks:
    """Checks of one file, or of one fitted model.

    Parameters
    ----------
    where : str
        What is checked, for the messages: a path, or "The fitted model".
    error : type of BERGError
        What to raise.
    """

    where: str
    error: type[BERGError]

    def check_parts(self, parts: dict[Any, Any], expected: WeightSizes | None = None) -> None:
        """Raise if an array is missing, has the wrong shape, or is another model's.

        Parameters
        ----------
        parts : dict
            As in `weights_subject-XX.npy`.
        expected : WeightSizes, optional
            None takes the sizes of the components and of the left hemisphere's coefficients.
        """
        for part, name in AXES:
            self._check_array(parts, part, name)
        if expected is not None:
            self._check_model(parts, expected)
        else:
            n_components, n_features = parts["pca_param"]["components_"].shape
            n_vertices = parts["lh_reg_param"]["coef_"].shape[0]
            expected = WeightSizes(n_features, n_components, n_vertices)
        for (part, name), axes in AXES.items():
            shape = tuple(getattr(expected, axis) for axis in axes)
            self.check_shape(f"{part} {name}", parts[part][name].shape, shape)

    def check_shape(self, name: str, got: tuple[int, ...], expected: tuple[int, ...]) -> None:
        """Raise if an array has another shape than expected."""
        if got != expected:
            raise self.error(
                f"{self.where}: {name} has the wrong shape",
                got=shown(got),
                accepted=f"{expected}",
                do="check that it is the weights of the model asked for, or fit the model again",
            )

    def check_finite(
        self, name: str, values: NDArray[Any], rows: NDArray[np.integer[Any]] | None = None
    ) -> None:
        """Raise if a value is NaN or infinite; `rows` says which rows of the whole these are."""
        with np.errstate(over="ignore", invalid="ignore"):
            total = values.sum()  # NaN or infinite if any value is, at a fifth of the cost
        if np.isfinite(total) or (finite := np.isfinite(values)).all():
            return
        first = int(np.argwhere(~finite)[0, 0])
        raise self.error(
            f"{self.where}: {name} has values that are NaN or infinite",
            got=f"{np.count_nonzero(~finite):,} of {finite.size:,} values, "
            f"the first in row {first if rows is None else rows[first]}",
            accepted="finite values",
            do="get the file from its source again, or fit the model again",
        )

    def check_positive(self, name: str, values: NDArray[Any]) -> None:
        """Raise if a value is zero or negative."""
        if not (wrong := values <= 0).any():
            return
        raise self.error(
            f"{self.where}: {name} has values that are zero or negative",
            got=f"{np.count_nonzero(wrong):,} of {wrong.size:,} values, "
            f"the first in row {np.argmax(wrong)}",
            accepted="positive values; scikit-learn gives a constant feature the scale 1",
            do="get the file from its source again, or fit the model again",
        )

    def _check_array(self, parts: dict[Any, Any], part: str, name: str) -> None:
        content = parts.get(part)
        if not (isinstance(content, dict) and name in content):
            held = content if isinstance(content, dict) else parts
            raise self.error(
                f"{self.where} does not hold this model's weights: {part} {name} is missing",
                got=listed(held),
                accepted=", ".join(dict.fromkeys(part for part, _ in AXES)),
                do="check that it is the weights of the model asked for, not its metadata",
            )
        array, n_axes = content[name], len(AXES[part, name])
        if not isinstance(array, np.ndarray | StoredArray) or array.dtype.kind != "f":
            raise self.error(
                f"{self.where}: {part} {name} is not an array of floats",
                got=str(getattr(array, "dtype", type(array).__name__)),
                accepted="float32 or float64",
                do="get the file from its source again, or fit the model again",
            )
        if len(array.shape) != n_axes:
            raise self.error(
                f"{self.where}: {part} {name} has the wrong shape",
                got=shown(array.shape),
                accepted=f"({', '.join(AXES[part, name])})",
                do="check that it is the weights of the model asked for, or fit the model again",
            )

    def _check_model(self, parts: dict[Any, Any], expected: WeightSizes) -> None:
        for (part, name), axis in SIZES.items():
            said = parts[part].get(name)
            if isinstance(said, int | np.integer) and said != getattr(expected, axis):
                raise self.error(
                    f"{self.where} is of another model",
                    got=f"{part} {name} = {said}",
                    accepted=f"{getattr(expected, axis)}",
                    do="put the weights of the model asked for in its place",
                )
