from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler

from berg.errors import BERGError, FileFormatError, InvalidParameterError, ModelLoadError
from berg.pickles.writing import save_dict
from berg.weights import (
    EncoderWeights,
    PCAParams,
    RegressionParams,
    ScalerParams,
    WeightSizes,
    fold,
    load_npy,
    save_npy,
)

N_FEATURES, N_COMPONENTS, N_VERTICES = 300, 6, 12
SIZES = WeightSizes(N_FEATURES, N_COMPONENTS, N_VERTICES)
Parts = tuple[ScalerParams, PCAParams, RegressionParams, RegressionParams]


@dataclasses.dataclass
class Fitted:
    """Estimators of scikit-learn, and the same weights in our form."""

    features: np.ndarray
    scaler: StandardScaler
    pca: PCA
    lh: LinearRegression
    rh: LinearRegression

    @property
    def parts(self) -> Parts:
        def take(estimator: Any, kind: type) -> Any:
            return kind(*(getattr(estimator, field.name) for field in dataclasses.fields(kind)))

        return (
            take(self.scaler, ScalerParams),
            take(self.pca, PCAParams),
            take(self.lh, RegressionParams),
            take(self.rh, RegressionParams),
        )

    def scores(self, features: np.ndarray) -> np.ndarray:
        return self.pca.transform(self.scaler.transform(features))


@pytest.fixture
def fitted(rng: np.random.Generator) -> Fitted:
    # Means and spreads as those of ReLU features: down to 1e-7, some constant.
    spread = 10.0 ** rng.uniform(-7, 1, N_FEATURES)
    features = spread * (rng.standard_normal((40, N_FEATURES)) + rng.uniform(-3, 3, N_FEATURES))
    features[:, ::50] = 0
    scaler = StandardScaler().fit(features)
    pca = PCA(N_COMPONENTS, svd_solver="full").fit(scaler.transform(features))
    scores = pca.transform(scaler.transform(features))
    lh, rh = (
        LinearRegression().fit(scores, rng.standard_normal((40, N_VERTICES))) for _ in range(2)
    )
    return Fitted(features, scaler, pca, lh, rh)


def responses(weights: EncoderWeights, features: np.ndarray) -> tuple[np.ndarray, ...]:
    scores = features.astype(np.float64) @ weights.projection.T + weights.offset
    return scores @ weights.lh_coef.T + weights.lh_intercept, (
        scores @ weights.rh_coef.T + weights.rh_intercept
    )


def test_folded_weights_predict_as_scikit_learn(
    fitted: Fitted, rng: np.random.Generator, tmp_path: Path
) -> None:
    save_npy(tmp_path / "w.npy", *fitted.parts)
    features = fitted.features[:7] * rng.uniform(0.5, 1.5)
    scores = fitted.scores(features)
    for weights in (fold(*fitted.parts), load_npy(tmp_path / "w.npy", expected=SIZES)):
        # 300 terms of about 1, each with a float32 rounding of 6e-8
        assert weights.projection.dtype == weights.offset.dtype == np.float32
        got = features @ weights.projection.T.astype(np.float64) + weights.offset
        np.testing.assert_allclose(got, scores, atol=2e-5)
        lh, rh = responses(weights, features)
        np.testing.assert_allclose(lh, fitted.lh.predict(scores), atol=1e-5)
        np.testing.assert_allclose(rh, fitted.rh.predict(scores), atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_projection_is_the_float64_quotient_rounded_once(
    fitted: Fitted, tmp_path: Path, dtype: Any, order: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("berg.pickles.reading.INLINE_BYTES", 100)  # from the file, in blocks
    monkeypatch.setattr("berg.pickles.stored_array.BLOCK_BYTES", 3000)
    scaler, pca, lh, rh = fitted.parts
    pca = dataclasses.replace(pca, components_=pca.components_.astype(dtype, order=order))
    lh = dataclasses.replace(lh, coef_=lh.coef_.astype(dtype, order=order))
    save_npy(tmp_path / "w.npy", scaler, pca, lh, rh)
    weights = load_npy(tmp_path / "w.npy")
    exact = (pca.components_.astype(np.float64) / scaler.scale_).astype(np.float32)
    np.testing.assert_array_equal(weights.projection, exact)
    np.testing.assert_array_equal(weights.lh_coef, lh.coef_.astype(np.float32))
    assert weights.projection.flags.c_contiguous


def test_a_large_mean_over_a_tiny_scale_does_not_amplify_rounding() -> None:
    # One feature, mean 1 and scale 1e-7: its weight of 1e7 is rounded by up to 0.5, which an
    # offset from the unrounded weight would turn into an error of the score of up to 0.5.
    scaler = ScalerParams(np.array([1.1e-7]), np.array([1.0]), np.array([1.21e-14]), 1, 9)
    pca = PCAParams(np.ones((1, 1)), np.zeros(1), *(np.ones(1),) * 3, 1, 9, 0.0, 1)
    regression = RegressionParams(np.ones((2, 1)), np.zeros(2), 1)
    weights = fold(scaler, pca, regression, regression)
    at_mean = np.array([[1.0]]) @ weights.projection.T.astype(np.float64) + weights.offset
    assert at_mean.item() == 0


def test_rows_of_the_selection_are_read_in_their_order(fitted: Fitted, tmp_path: Path) -> None:
    save_npy(tmp_path / "w.npy", *fitted.parts)
    whole = load_npy(tmp_path / "w.npy")
    lh_rows, rh_rows = np.array([7, 2, 11]), np.array([], np.int64)
    part = load_npy(tmp_path / "w.npy", lh_rows=lh_rows, rh_rows=rh_rows, expected=SIZES)
    np.testing.assert_array_equal(part.lh_coef, whole.lh_coef[lh_rows])
    np.testing.assert_array_equal(part.lh_intercept, whole.lh_intercept[lh_rows])
    assert part.rh_coef.shape == (0, N_COMPONENTS)
    assert part.rh_intercept.shape == (0,)


def test_the_file_is_the_dict_that_users_have(fitted: Fitted, tmp_path: Path) -> None:
    save_npy(tmp_path / "w.npy", *fitted.parts)
    content = np.load(tmp_path / "w.npy", allow_pickle=True).item()
    assert list(content) == ["scaler_param", "pca_param", "lh_reg_param", "rh_reg_param"]
    assert set(content["scaler_param"]) == {
        "scale_", "mean_", "var_", "n_features_in_", "n_samples_seen_"
    }  # fmt: skip
    assert set(content["pca_param"]) == {
        "components_", "mean_", "explained_variance_", "explained_variance_ratio_",
        "singular_values_", "n_components_", "n_samples_", "noise_variance_", "n_features_in_",
    }  # fmt: skip
    assert set(content["lh_reg_param"]) == {"coef_", "intercept_", "n_features_in_"}
    assert set(content["rh_reg_param"]) == {"coef_", "intercept_", "n_features_in_"}

    # As the existing toolkit does: attributes set on empty estimators.
    scaler, pca, lh = StandardScaler(), PCA(), LinearRegression()
    for estimator, part in ((scaler, "scaler"), (pca, "pca"), (lh, "lh_reg")):
        for name, value in content[f"{part}_param"].items():
            setattr(estimator, name, value)
    np.testing.assert_array_equal(
        lh.predict(pca.transform(scaler.transform(fitted.features))),
        fitted.lh.predict(fitted.scores(fitted.features)),
    )


def test_reads_a_file_that_numpy_pickled(fitted: Fitted, tmp_path: Path) -> None:
    save_npy(tmp_path / "ours.npy", *fitted.parts)
    content = np.load(tmp_path / "ours.npy", allow_pickle=True).item()
    np.save(tmp_path / "theirs.npy", content)
    ours, theirs = load_npy(tmp_path / "ours.npy"), load_npy(tmp_path / "theirs.npy")
    for name, value in vars(ours).items():
        np.testing.assert_array_equal(value, getattr(theirs, name))


# ---- each fault has its own message ----------------------------------------------------------


def broken(fitted: Fitted, part: str, name: str, value: Any) -> dict[str, Any]:
    parts = zip(("scaler_param", "pca_param", "lh_reg_param", "rh_reg_param"), fitted.parts,
                strict=True)  # fmt: skip
    content = {key: dict(vars(params)) for key, params in parts}
    content[part][name] = value
    return content


def with_value(array: np.ndarray, index: Any, value: float) -> np.ndarray:
    array = array.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("scaler_param", "scale_"),
        ("scaler_param", "mean_"),
        ("pca_param", "mean_"),
        ("pca_param", "components_"),
        ("lh_reg_param", "coef_"),
        ("lh_reg_param", "intercept_"),
        ("rh_reg_param", "coef_"),
        ("rh_reg_param", "intercept_"),
    ],
)
def test_every_array_is_looked_through(
    fitted: Fitted, tmp_path: Path, part: str, name: str
) -> None:
    path = tmp_path / "w.npy"
    good = broken(fitted, part, "_", 0)[part][name]
    for value in (np.nan, np.inf, -np.inf):
        save_dict(path, broken(fitted, part, name, with_value(good, 3, value)))
        count = good[3].size
        message = rf"{part} {name} has values that are NaN.*\n.*{count} of {good.size:,}.*row 3"
        with pytest.raises(FileFormatError, match=message):
            load_npy(path, expected=SIZES)
    for wrong in (good[1:], good[None], np.concatenate([good, good])):
        save_dict(path, broken(fitted, part, name, wrong))
        with pytest.raises(FileFormatError, match=rf"{part} {name} has the wrong shape"):
            load_npy(path, expected=SIZES)
    save_dict(path, broken(fitted, part, name, good.astype(int)))
    with pytest.raises(FileFormatError, match=rf"{part} {name} is not an array of floats"):
        load_npy(path)
    content = broken(fitted, part, "_", 0)
    del content[part][name]
    save_dict(path, content)
    with pytest.raises(FileFormatError, match=rf"{part} {name} is missing"):
        load_npy(path)


def test_a_nan_outside_the_selection_is_not_read(fitted: Fitted, tmp_path: Path) -> None:
    coef = with_value(fitted.lh.coef_, (5, 0), np.nan)
    save_dict(tmp_path / "w.npy", broken(fitted, "lh_reg_param", "coef_", coef))
    load_npy(tmp_path / "w.npy", lh_rows=np.array([4, 6]))
    with pytest.raises(FileFormatError, match=r"1 of 12 values, the first in row 5"):
        load_npy(tmp_path / "w.npy", lh_rows=np.array([4, 5]))


@pytest.mark.parametrize("value", [0.0, -1.0])
def test_a_scale_of_zero_is_an_error(fitted: Fitted, tmp_path: Path, value: float) -> None:
    scale = with_value(fitted.scaler.scale_, 8, value)
    save_dict(tmp_path / "w.npy", broken(fitted, "scaler_param", "scale_", scale))
    with pytest.raises(FileFormatError, match=r"scale_ has values that are zero.*\n.*row 8"):
        load_npy(tmp_path / "w.npy")


def test_weights_beyond_float32_are_an_error(fitted: Fitted, tmp_path: Path) -> None:
    scale = with_value(fitted.scaler.scale_, 8, 1e-60)
    save_dict(tmp_path / "w.npy", broken(fitted, "scaler_param", "scale_", scale))
    with pytest.raises(FileFormatError, match="components_ / scaler_param scale_ has values"):
        load_npy(tmp_path / "w.npy")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (WeightSizes(1000, N_COMPONENTS, N_VERTICES), r"another model.*\n.*scaler.* = 300"),
        (WeightSizes(N_FEATURES, 250, N_VERTICES), r"another model.*\n.*n_components_ = 6"),
        (WeightSizes(N_FEATURES, N_COMPONENTS, 99), r"lh_reg_param coef_ has the wrong shape"),
    ],
)
def test_another_models_file_is_told(
    fitted: Fitted, tmp_path: Path, sizes: WeightSizes, message: str
) -> None:
    save_npy(tmp_path / "w.npy", *fitted.parts)
    with pytest.raises(FileFormatError, match=message):
        load_npy(tmp_path / "w.npy", expected=sizes)


@pytest.mark.parametrize("content", [{}, {"fmri": {}, "encoding_models": {}}, {"pca_param": 3}])
def test_a_file_without_weights_is_told(tmp_path: Path, content: dict[str, Any]) -> None:
    save_dict(tmp_path / "w.npy", content)
    with pytest.raises(FileFormatError, match=r"does not hold this model's weights: scaler_param"):
        load_npy(tmp_path / "w.npy")


def test_a_hostile_name_is_quoted_in_the_message(tmp_path: Path) -> None:
    save_dict(tmp_path / "w.npy", {"x\x1b[2J\n  do:       run me": 1})
    with pytest.raises(FileFormatError, match=r"got: .*'x\\x1b\[2J\\n  do") as caught:
        load_npy(tmp_path / "w.npy")
    assert str(caught.value).count("\n  do:") == 1


def test_a_truncated_file_is_told(fitted: Fitted, tmp_path: Path) -> None:
    path = tmp_path / "w.npy"
    save_npy(path, *fitted.parts)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FileFormatError, match="is truncated") as caught:
        load_npy(path)
    assert isinstance(caught.value, ModelLoadError)
    assert isinstance(caught.value, BERGError)


def test_an_unsafe_file_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "w.npy", {"scaler_param": pickle.Unpickler})  # type: ignore[arg-type]
    with pytest.raises(FileFormatError, match=r"refused: it names _?pickle\.Unpickler"):
        load_npy(tmp_path / "w.npy")


def test_nothing_wrong_is_saved_or_folded(fitted: Fitted, tmp_path: Path) -> None:
    scaler, pca, lh, rh = fitted.parts
    bad_lh = dataclasses.replace(lh, intercept_=with_value(lh.intercept_, 2, np.nan))
    short_rh = dataclasses.replace(rh, coef_=rh.coef_[1:])
    for arguments in ((scaler, pca, bad_lh, rh), (scaler, pca, lh, short_rh)):
        with pytest.raises(InvalidParameterError, match="The fitted model: "):
            save_npy(tmp_path / "w.npy", *arguments)
        with pytest.raises(InvalidParameterError, match="The fitted model: "):
            fold(*arguments)
    assert list(tmp_path.iterdir()) == []
