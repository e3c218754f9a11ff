from __future__ import annotations

import dataclasses
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import safetensors
from safetensors.numpy import load_file, save_file

from berg.alexnet import Layer
from berg.converted import (
    WeightsSource,
    arrays_are_whole,
    check_fresh,
    convert,
    load_safetensors,
    load_weights,
    read_info,
)
from berg.errors import FileFormatError, ModelLoadError
from berg.weights import (
    EncoderWeights,
    PCAParams,
    RegressionParams,
    ScalerParams,
    WeightSizes,
    load_npy,
    save_npy,
)

LAYERS = (Layer("conv", (3, 2, 5)), Layer("fc", (20,)))
SIZES = WeightSizes(50, 4, 12)
MADE = {"model_id": "a-model", "subject": 1, "expected": SIZES, "layers": LAYERS}
# Column of the channel-last projection to column of the channel-first one, written out.
ORDER = [c * 10 + y * 5 + x for y in range(2) for x in range(5) for c in range(3)]
ORDER += range(30, 50)
NAMES = ["projection", "offset", "lh_coef", "lh_intercept", "rh_coef", "rh_intercept"]


def make_npy(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scaler = ScalerParams(*rng.uniform(0.1, 2, (3, 50)), 50, 30)
    pca = PCAParams(rng.random((4, 50)), rng.random(50), *rng.random((3, 4)), 4, 30, 0.1, 50)
    lh, rh = (RegressionParams(rng.random((4, 12)).T, rng.random(12), 4) for _ in range(2))
    save_npy(path, scaler, pca, lh, rh)


@pytest.fixture
def npy(tmp_path: Path) -> Path:
    path = tmp_path / "weights_subject-01.npy"
    make_npy(path, 1)
    return path


@pytest.fixture
def converted(npy: Path) -> Path:
    return convert(npy, **MADE, simulated=True)


def test_the_converted_form_is_the_same_weights(npy: Path, converted: Path) -> None:
    assert converted == npy.with_suffix(".safetensors")
    ours, theirs = load_safetensors(converted, expected=SIZES), load_npy(npy)
    by_library = load_file(converted)
    assert set(by_library) == set(NAMES)
    for name in NAMES:
        original = getattr(theirs, name)
        expected = original[:, ORDER] if name == "projection" else original
        np.testing.assert_array_equal(getattr(ours, name), expected)
        np.testing.assert_array_equal(by_library[name], expected)
        assert getattr(ours, name).dtype == np.float32
    assert ours.channels_last
    assert not theirs.channels_last


def test_rows_of_the_selection(converted: Path) -> None:
    whole = load_safetensors(converted, expected=SIZES)
    lh_rows, rh_rows = np.array([9, 1]), np.array([], np.int64)
    part = load_safetensors(converted, expected=SIZES, lh_rows=lh_rows, rh_rows=rh_rows)
    np.testing.assert_array_equal(part.lh_coef, whole.lh_coef[lh_rows])
    np.testing.assert_array_equal(part.lh_intercept, whole.lh_intercept[lh_rows])
    assert part.rh_coef.shape == (0, 4)


def test_the_projection_is_a_map_that_never_writes(converted: Path) -> None:
    before = converted.read_bytes()
    projection = load_safetensors(converted, expected=SIZES).projection
    projection[0, 0] = 123
    assert converted.read_bytes() == before


def test_the_header_says_where_it_is_from(npy: Path, converted: Path) -> None:
    info = read_info(converted)
    with safetensors.safe_open(converted, "np") as file:
        assert file.metadata() == info
    assert info["model_id"] == "a-model"
    assert info["subject"] == "1"
    assert info["simulated"] == "true"
    assert int(info["source_bytes"]) == npy.stat().st_size


def load(npy: Path, **options: object) -> tuple[EncoderWeights, WeightsSource]:
    return load_weights(npy, **({"model_id": "a-model", "subject": 1, "expected": SIZES} | options))


def test_both_forms_have_one_fingerprint(npy: Path) -> None:
    of_npy = load(npy)[1].fingerprint()
    assert of_npy == hashlib.sha256(npy.read_bytes()).hexdigest()
    convert(npy, **MADE)
    assert load(npy)[1].fingerprint() == of_npy
    npy.unlink()
    assert load(npy)[1].fingerprint() == of_npy


def test_a_fingerprint_is_that_of_the_loaded_weights(npy: Path) -> None:
    source = load(npy)[1]
    make_npy(npy, 2)
    os.utime(npy, ns=(1, 1))
    with pytest.raises(ModelLoadError, match="was replaced or removed"):
        source.fingerprint()
    npy.unlink()
    with pytest.raises(ModelLoadError, match="was replaced or removed"):
        source.fingerprint()


def test_the_converted_form_is_preferred_and_is_enough(npy: Path) -> None:
    assert not load(npy)[0].channels_last
    path = convert(npy, **MADE)
    weights, source = load(npy)
    assert weights.channels_last
    assert source.path == path
    npy.unlink()
    assert load(npy)[0].channels_last
    path.unlink()
    with pytest.raises(FileNotFoundError):
        load(npy)


@pytest.mark.parametrize("said", [True, False, None])
def test_the_header_says_whether_it_is_simulated(npy: Path, said: bool | None) -> None:
    convert(npy, **MADE, simulated=said)
    assert load(npy)[1].simulated is said


@pytest.mark.parametrize("other", [{"model_id": "b-model"}, {"subject": 2}])
def test_another_models_or_subjects_file_is_refused(
    npy: Path, converted: Path, other: dict[str, object]
) -> None:
    npy.unlink()
    with pytest.raises(FileFormatError, match="another model or subject"):
        load(npy, **other)


def test_a_fresh_file_passes_without_reading_the_npy(
    npy: Path, converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("berg.converted.sha256_of", lambda path: pytest.fail("was read"))
    check_fresh(npy, converted)


def test_a_copy_with_another_time_is_fresh(npy: Path, converted: Path) -> None:
    os.utime(npy, ns=(0, 0))
    check_fresh(npy, converted)


@pytest.mark.parametrize("time", [0, 2**62])
def test_other_weights_of_the_same_size_are_stale_whatever_their_time(
    npy: Path, converted: Path, time: int
) -> None:
    size = npy.stat().st_size
    make_npy(npy, 2)
    os.utime(npy, ns=(time, time))
    assert npy.stat().st_size == size
    with pytest.raises(ModelLoadError, match=r"stale(.*\n)*.*SHA-256(.*\n)*.*berg convert .*force"):
        load(npy)
    convert(npy, **MADE)
    np.testing.assert_array_equal(load(npy)[0].lh_coef, load_npy(npy).lh_coef)


def test_weights_of_another_size_are_stale(npy: Path, converted: Path) -> None:
    npy.write_bytes(npy.read_bytes() + b"x")
    with pytest.raises(ModelLoadError, match=r"stale(.*\n)*.*bytes, as when it was converted"):
        check_fresh(npy, converted)


def test_a_conversion_that_fails_leaves_the_old_file(npy: Path, converted: Path) -> None:
    before = converted.read_bytes()
    npy.write_bytes(npy.read_bytes()[:-50])
    with pytest.raises(FileFormatError, match="truncated"):
        convert(npy, **MADE)
    assert converted.read_bytes() == before
    assert sorted(npy.parent.iterdir()) == [npy, converted]


def test_the_arrays_are_those_that_were_converted(converted: Path) -> None:
    assert arrays_are_whole(converted) is True
    arrays, info = load_file(converted), read_info(converted)
    for name in NAMES:
        changed = arrays[name].copy()
        changed.flat[-1] += 1
        save_file(arrays | {name: changed}, converted, info)
        assert arrays_are_whole(converted) is False
    save_file(arrays, converted, info)
    assert arrays_are_whole(converted) is True
    del info["arrays_sha256"]
    save_file(arrays, converted, info)
    assert arrays_are_whole(converted) is None


def test_every_truncation_is_an_error(converted: Path) -> None:
    data = converted.read_bytes()
    for size in range(0, len(data), 7):
        converted.write_bytes(data[:size])
        with pytest.raises(FileFormatError, match="is damaged or truncated"):
            load_safetensors(converted, expected=SIZES)


def test_faults_are_told_apart(converted: Path) -> None:
    arrays, info = load_file(converted), read_info(converted)

    def check(message: str, expected: WeightSizes = SIZES) -> None:
        with pytest.raises(FileFormatError, match=message):
            load_safetensors(converted, expected=expected)

    for name in ("n_features", "n_components", "n_vertices"):
        check("has the wrong shape", dataclasses.replace(SIZES, **{name: 99}))
    for name in NAMES[1:]:
        wrong = arrays | {name: np.full_like(arrays[name], np.nan)}
        save_file(wrong, converted, info)
        check(f"{name} has values that are NaN or infinite")
    save_file(arrays | {"offset": arrays["offset"][1:]}, converted, info)
    check(r"offset has the wrong shape\n.*\(3,\)\n.*\(4,\)")
    save_file(arrays | {"offset": arrays["offset"].astype("f8")}, converted, info)
    check(r"offset is not float32\n.*float64")
    save_file({"offset": arrays["offset"]}, converted, info)
    check("lacks lh_coef, lh_intercept, projection")
    save_file(arrays, converted, info | {"format_version": "2"})
    check(r"does not read\n.*weights 2\n.*weights 1")
    save_file(arrays, converted, {"format": "pt"})
    check("is not a file that `berg convert` wrote")
    save_file(arrays, converted, {k: v for k, v in info.items() if k != "source_bytes"})
    check("is not a file that `berg convert` wrote")
    save_file(arrays, converted)
    check("is not a file that `berg convert` wrote")
    converted.write_bytes((60_000).to_bytes(8, "little") + b"[" * 60_000)
    check("is damaged or truncated")
    converted.write_bytes((2**62).to_bytes(8, "little"))
    check("is damaged or truncated")
