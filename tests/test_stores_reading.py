import hashlib
import pickle
from dataclasses import replace

import numpy as np
import pytest

from berg import BERG
from berg.errors import (
    BERGWarning,
    FileFormatError,
    InvalidParameterError,
    ModelLoadError,
    StoreNotFoundError,
    WeightsNotFoundError,
)
from berg.stores import Store, describe_store, open_store
from conftest import MODEL_ID, N_COMPONENTS, N_VERTICES, ROIS
from store_fixture import RECIPE

pytestmark = pytest.mark.filterwarnings("ignore:.* could not be read and are left out")

N_IMAGES = 11
NAMES = [f"{i}.png" for i in range(N_IMAGES)]
UNREADABLE = [2, 9]
READABLE = [i for i in range(N_IMAGES) if i not in UNREADABLE]
SCORES = np.random.default_rng(5).standard_normal((N_IMAGES, N_COMPONENTS), np.float32)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write(store, i_chunk):
    images = store.recipe.chunk(i_chunk)
    status = np.ones(N_IMAGES, np.uint8)
    status[UNREADABLE] = 2
    for subject in store.recipe.subjects:
        store.write_scores(i_chunk, subject, SCORES[images] * subject)
    store.finish_chunk(i_chunk, NAMES[images], status[images])


def make(path, weights, *, subjects=(1,), rois=(), lh=range(N_VERTICES), rh=range(N_VERTICES)):
    recipe = replace(
        RECIPE,
        model_id=MODEL_ID,
        subjects=subjects,
        rois=rois,
        n_images=N_IMAGES,
        chunk_images=4,
        weights_sha256=tuple(sha256(weights) for _ in subjects),
    )
    return Store.create(
        path,
        recipe,
        n_components=N_COMPONENTS,
        vertices={s: (np.array(lh, np.int64), np.array(rh, np.int64)) for s in subjects},
        provenance={s: {"subject": s, "units": "z"} for s in subjects},
    )


@pytest.fixture
def store(tiny, tmp_path):
    store = make(tmp_path / "x.zarr", tiny.weights_npy)
    for i in range(3):
        write(store, i)
    return store


def expected(tiny, subject=1):
    return [
        SCORES[READABLE] * subject @ part.coef_.T + part.intercept_ for part in (tiny.lh, tiny.rh)
    ]


def test_a_store_gives_responses(tiny, store):
    with pytest.warns(BERGWarning, match="2 of 11 images"):
        responses = open_store(store.path, berg_dir=tiny.berg_dir)
    assert responses.n_images == len(READABLE)
    assert list(responses.names) == [NAMES[i] for i in READABLE]
    assert responses.provenance["subject"] == 1
    np.testing.assert_array_equal(responses.scores[:], SCORES[READABLE])
    for got, want in zip(responses.compute(), expected(tiny), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-5)  # products of 5 numbers near 1
    one = responses["10.png"]
    np.testing.assert_allclose(one.compute()[0], expected(tiny)[0][-1:], atol=1e-5)
    roi = responses.roi("V1v")
    assert roi.lh_vertices.tolist() == sorted(ROIS["V1v"]["lh"])
    np.testing.assert_allclose(roi.compute()[1], expected(tiny)[1][:, [0, 11]], atol=1e-5)


def test_a_store_of_a_region_gives_its_vertices(tiny, tmp_path):
    store = make(tmp_path / "x.zarr", tiny.weights_npy, rois=("V1v",), lh=[1, 2, 3], rh=[])
    for i in range(3):
        write(store, i)
    lh, rh = open_store(store.path, berg_dir=tiny.berg_dir).compute()
    np.testing.assert_allclose(lh, expected(tiny)[0][:, 1:4], atol=1e-5)
    assert rh.shape == (len(READABLE), 0)


def test_a_store_that_is_not_complete_is_opened_when_asked(tiny, tmp_path):
    store = make(tmp_path / "x.zarr", tiny.weights_npy)
    assert open_store(store.path, berg_dir=tiny.berg_dir, partial=True).n_images == 0
    write(store, 2)
    with store.hold():  # as of the process that is writing it
        with pytest.raises(InvalidParameterError) as caught:
            open_store(store.path, berg_dir=tiny.berg_dir)
        assert "3 of 11 images are done (1 of 3 chunks)" in str(caught.value)
        assert "partial=True" in str(caught.value)
        responses = open_store(store.path, berg_dir=tiny.berg_dir, partial=True)
    assert list(responses.names) == ["8.png", "10.png"]
    write(store, 0)  # what is opened stays as it was
    np.testing.assert_array_equal(responses.scores[:], SCORES[[8, 10]])


def test_responses_of_a_store_are_pickled(tiny, store):
    responses = open_store(store.path, berg_dir=tiny.berg_dir)
    again = pickle.loads(pickle.dumps(responses))  # noqa: S301 - our own
    assert "not loaded" in repr(again)
    assert again.names == responses.names
    np.testing.assert_array_equal(again.roi("V1v").lh[:], responses.roi("V1v").lh[:])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(responses)).rh[:], again.rh[:])  # noqa: S301


def test_a_store_knows_the_mesh_of_a_smaller_brain(tiny, store):
    responses = open_store(store.path, berg_dir=tiny.berg_dir)
    assert responses.mesh == "fsaverage0"  # 12 vertices
    assert responses.mean_over_images().whole()[0].shape == (N_VERTICES,)
    with pytest.raises(InvalidParameterError, match="fsaverage5 is not coarser than fsaverage0"):
        responses.to_fsaverage5()


def test_of_several_subjects_one_is_named(tiny, tmp_path):
    store = make(tmp_path / "x.zarr", tiny.weights_npy, subjects=(1, 2))
    for i in range(3):
        write(store, i)
    for subject, match in ((None, "several subjects"), (3, "does not have subject 3")):
        with pytest.raises(InvalidParameterError, match=rf"{match}(.|\n)*accepted: 1, 2"):
            open_store(store.path, subject=subject, berg_dir=tiny.berg_dir)
    responses = open_store(store.path, subject=2, berg_dir=tiny.berg_dir)
    np.testing.assert_array_equal(responses.scores[:], SCORES[READABLE] * 2)


def test_scores_need_no_weights(tiny, store, tmp_path):
    responses = open_store(store.path, berg_dir=tmp_path / "nothing")
    np.testing.assert_array_equal(responses[2:4].scores[:], SCORES[[3, 4]])
    assert responses.names[0] == "0.png"
    with pytest.raises(WeightsNotFoundError):
        responses.compute()


def test_other_weights_are_refused(tiny, store):
    with tiny.weights_npy.open("ab") as file:
        file.write(b"\0")  # loads as before, but is another file
    responses = open_store(store.path, berg_dir=tiny.berg_dir)
    with pytest.raises(ModelLoadError) as caught:
        responses.compute()
    assert "made with other weights of subject 1" in str(caught.value)
    assert sha256(tiny.weights_npy)[:16] in str(caught.value)
    assert store.recipe.weights_sha256[0][:16] in str(caught.value)


def test_another_version_of_berg_may_read(tiny, store, monkeypatch):
    assert store.recipe.berg_version == "1.0"
    monkeypatch.setattr("berg.__version__", "9.0")
    assert open_store(store.path, berg_dir=tiny.berg_dir).n_images == len(READABLE)


def test_damage_is_told_when_it_is_read(tiny, store):
    path = store.path / "subject-01/scores/c/1/0"
    path.write_bytes(bytes(path.stat().st_size))
    responses = open_store(store.path, berg_dir=tiny.berg_dir)
    assert responses[:2].compute()[0].shape == (2, N_VERTICES)
    with pytest.raises(FileFormatError, match="images 4 to 7 is damaged"):
        responses.compute()


def test_there_is_no_store(tmp_path):
    for ask in (open_store, describe_store):
        with pytest.raises(StoreNotFoundError):
            ask(tmp_path / "x.zarr")


def test_a_store_is_described(tiny, store):
    summary = describe_store(str(store.path))
    assert summary.path == store.path
    assert summary.recipe == store.recipe
    assert (summary.n_done_chunks, summary.n_done_images, summary.simulated) == (3, 11, False)
    assert summary.unreadable == ("2.png", "9.png")
    assert summary.n_bytes == sum(p.stat().st_size for p in store.path.rglob("*") if p.is_file())
    (store.path / "status/c/1").unlink()
    summary = describe_store(store.path)
    assert (summary.n_done_chunks, summary.n_done_images) == (2, 7)


@pytest.mark.parametrize("converted", [False, True])
def test_weights_of_a_smaller_brain_are_refused(tiny, tmp_path, converted):
    store = make(tmp_path / "x.zarr", tiny.weights_npy, lh=[3, N_VERTICES], rh=[])
    if converted:
        BERG(tiny.berg_dir).convert_weights(MODEL_ID, subject=1)
    responses = open_store(store.path, berg_dir=tiny.berg_dir, partial=True)
    with pytest.raises(ModelLoadError, match="subject 1"):
        responses.compute()
