"""Chunks of images into a store, beside what the models themselves give."""

import threading

import numpy as np
import pytest

from berg import BERG
from berg.encoding import BATCH_SIZE
from berg.errors import ImageFileError, InvalidParameterError, ModelLoadError, ResourceError
from berg.sources import find_images
from berg.stores import Store, encoding
from berg.stores.encoding import Job, encode_chunk, encode_chunks, load_models
from berg.stores.order import look_up
from berg.weights import save_npy
from conftest import MODEL_ID, N_VERTICES
from run_fixture import add_second_subject, read_images, share_network, write_images

N_IMAGES = 7


@pytest.fixture
def photos(tmp_path):
    return write_images(tmp_path / "photos", N_IMAGES)


@pytest.fixture
def begin(tiny, tiny_metadata, photos, tmp_path, monkeypatch):
    """Make a store of the photographs, without images; options as those of `look_up`."""
    add_second_subject(tiny, tiny_metadata)
    share_network(monkeypatch)

    def make(subjects=(1, 2), name="s.zarr", **options):
        options = {"chunk_images": 3, **options}
        order = look_up(find_images([photos]), BERG(tiny.berg_dir), MODEL_ID, subjects, **options)
        return order, order.create_store(tmp_path / name)

    return make


def encode(order, store, **options):
    models = load_models(order.recipe, order.berg_dir, "cpu")
    return list(encode_chunks(store, models, store.pending(), order.images.__getitem__, **options))


def job_of(order, store, **changes):
    return Job(store.path, order.berg_dir, order.recipe, "cpu", False)


def test_scores_are_the_models_own(begin, photos, tiny):
    order, store = begin()
    counted = []
    chunks = encode(order, store, count=counted.append)
    assert [(chunk.i_chunk, chunk.n_images) for chunk in chunks] == [(0, 3), (1, 3), (2, 1)]
    assert sum(counted) == N_IMAGES
    assert not store.pending()
    models = BERG(tiny.berg_dir).get_encoding_models(MODEL_ID, [1, 2], "cpu")
    own = models.encode_lazily(read_images(photos), show_progress=False)
    for subject, responses in zip((1, 2), own, strict=True):
        stored = store.read_scores(subject, 0, N_IMAGES)
        # Batches of other sizes round differently in float32.
        np.testing.assert_allclose(stored, responses.scores[:], rtol=0, atol=1e-4)
    assert not np.allclose(store.read_scores(1, 0, 3), store.read_scores(2, 0, 3))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_responses_are_the_models_own(begin, photos, tiny, dtype):
    order, store = begin(dtype=dtype, rois=["V1v", "OWFA"])
    encode(order, store)
    models = BERG(tiny.berg_dir).get_encoding_models(
        MODEL_ID, [1, 2], "cpu", {"roi": ["V1v", "OWFA"]}
    )
    own = models.generate_response(read_images(photos), show_progress=False)
    for model, both in zip(models, own, strict=True):
        lh_vertices, rh_vertices = store.vertices(model.subject)
        np.testing.assert_array_equal(lh_vertices, model.lh_vertices)
        np.testing.assert_array_equal(rh_vertices, model.rh_vertices)
        for hemi, expected in zip(("lh", "rh"), both, strict=True):
            stored = store._files.read(f"subject-{model.subject:02}/{hemi}", 0, N_IMAGES)
            assert stored.dtype == dtype
            # Half precision has 11 bits.
            atol = 1e-4 if dtype == "float32" else 2**-11 * max(1, np.abs(expected).max())
            np.testing.assert_allclose(stored, expected, rtol=0, atol=atol)


def test_batches_end_where_chunks_do(begin, monkeypatch):
    order, store = begin(chunk_images=5)
    sizes = []
    monkeypatch.setattr(encoding, "BATCH_SIZE", 2)
    models = load_models(order.recipe, order.berg_dir, "cpu")
    scores = models.scores
    monkeypatch.setattr(
        models, "scores", lambda pixels: (sizes.append(len(pixels)), scores(pixels))[1]
    )
    list(encode_chunks(store, models, store.pending(), order.images.__getitem__))
    assert sizes == [2, 2, 1, 2]
    assert BATCH_SIZE == 128


def test_a_chunk_is_written_before_the_next_is_computed(begin):
    order, store = begin(chunk_images=1)
    models = load_models(order.recipe, order.berg_dir, "cpu")
    for i, _ in enumerate(encode_chunks(store, models, store.pending(), order.images.__getitem__)):
        assert store.is_done().sum() == i + 1


def test_images_are_asked_for_as_they_are_needed(begin):
    order, store = begin(chunk_images=1)
    models = load_models(order.recipe, order.berg_dir, "cpu")
    asked = []

    def images(part):
        asked.append(part.start)
        return order.images[part]

    chunks = encode_chunks(store, models, store.pending(), images)
    next(chunks)
    assert len(asked) <= 4  # two batches ahead
    chunks.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("berg-read")]
    assert store.pending() == list(range(1, N_IMAGES))


def test_without_responses_the_regressions_are_not_loaded(begin):
    order, _ = begin()
    assert [
        len(model.lh_vertices) for model in load_models(order.recipe, order.berg_dir, "cpu")
    ] == [0, 0]
    order, _ = begin(dtype="float32", name="r.zarr")
    models = load_models(order.recipe, order.berg_dir, "cpu")
    assert [len(model.lh_vertices) for model in models] == [N_VERTICES, N_VERTICES]


def test_an_unreadable_image_is_marked_and_its_neighbours_are_the_same_bits(begin, photos):
    order, whole = begin()
    encode(order, whole)
    (photos / "04.png").write_text("no image")
    order, store = begin(name="marked.zarr", dtype="float32")
    chunks = encode(order, store, skip_bad=True)
    (line,) = [line for chunk in chunks for line in chunk.unreadable]
    assert "04.png" in line
    assert store.status().tolist() == [1, 1, 1, 1, 2, 1, 1]
    for subject in (1, 2):
        before, after = (s.read_scores(subject, 0, N_IMAGES) for s in (whole, store))
        good = np.arange(N_IMAGES) != 4
        np.testing.assert_array_equal(after[good], before[good])
        assert np.isnan(after[4]).all()
        lh = store._files.read(f"subject-{subject:02}/lh", 0, N_IMAGES)
        np.testing.assert_array_equal(np.isnan(lh).all(axis=1), ~good)
        assert np.isfinite(lh[good]).all()


def test_an_unreadable_image_ends_the_run_after_the_chunks_before_it(begin, photos):
    (photos / "05.png").write_text("no image")
    order, store = begin()
    with pytest.raises(ImageFileError, match=r"05\.png cannot be read"):
        encode(order, store)
    assert store.pending() == [1, 2]


# --- workers


@pytest.fixture
def loads(monkeypatch):
    """How often a worker loaded models; it begins with none."""
    monkeypatch.setattr(encoding, "_loaded", None)
    calls = []

    def counted(*arguments):
        calls.append(arguments)
        return load_models(*arguments)

    monkeypatch.setattr(encoding, "load_models", counted)
    return calls


def test_a_worker_loads_once_even_when_two_chunks_arrive_together(begin, loads):
    order, store = begin(chunk_images=1)
    job = job_of(order, store)
    threads = [
        threading.Thread(target=encode_chunk, args=(job, i, order.images[i : i + 1]))
        for i in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert store.pending() == list(range(2, N_IMAGES))
    encode_chunk(job, 2, order.images[2:3])
    assert len(loads) == 1
    other, other_store = begin(subjects=[2], name="other.zarr")
    encode_chunk(job_of(other, other_store), 0, other.images[0:3])
    assert len(loads) == 2


def test_a_workers_chunk_has_the_same_bytes(begin, loads):
    order, store = begin()
    encode(order, store)
    order, other = begin(name="worker.zarr")
    done = encode_chunk(job_of(order, other), 1, order.images[3:6])
    assert (done.i_chunk, done.n_images) == (1, 3)
    for subject in (1, 2):
        np.testing.assert_array_equal(
            other.read_scores(subject, 3, 6), store.read_scores(subject, 3, 6)
        )


def test_a_worker_with_other_weights_is_refused(begin, loads, tiny):
    order, store = begin()
    save_npy(tiny.weights_npy, tiny.scaler, tiny.pca, tiny.rh, tiny.lh)
    tiny.weights_npy.with_suffix(".safetensors").unlink()
    with pytest.raises(ModelLoadError, match="is not what the store was begun with"):
        encode_chunk(job_of(order, store), 0, order.images[0:3])
    assert len(store.pending()) == 3


def test_a_worker_that_sees_another_store_is_refused(begin, loads, tmp_path):
    order, _ = begin()
    _, other = begin(name="other.zarr", subjects=[2])
    with pytest.raises(InvalidParameterError, match="begun with other parameters"):
        encode_chunk(job_of(order, other), 0, order.images[0:3])
    job = Job(tmp_path / "gone.zarr", order.berg_dir, order.recipe, "cpu", False)
    with pytest.raises(FileNotFoundError, match=r"does not see the store(.|\n)*all machines see"):
        encode_chunk(job, 0, order.images[0:3])


# --- orders


def test_weights_stay_unconverted_where_berg_dir_cannot_be_written(begin, monkeypatch, tmp_path):
    def refuse(*arguments, **options):
        raise ResourceError("no space")

    with monkeypatch.context() as patch:
        patch.setattr(BERG, "convert_weights", refuse)
        order, store = begin()
    assert not order.mapped
    encode(order, store)
    order, other = begin(name="converted.zarr")
    assert order.mapped
    encode(order, other)
    for subject in (1, 2):
        # The two forms of weights lie differently in memory, and so are summed differently.
        np.testing.assert_allclose(
            *(s.read_scores(subject, 0, N_IMAGES) for s in (store, other)), rtol=0, atol=1e-5
        )
    assert store.provenance(1) == other.provenance(1)


def test_the_order_of_subjects_and_regions_does_not_matter(begin):
    first, _ = begin([2, 1, 2], rois=["OWFA", "V1v"])
    second, _ = begin([1, 2], rois=("V1v", "OWFA"), name="b.zarr")
    assert first.recipe == second.recipe
    assert first.provenance == second.provenance
    assert first.provenance[1]["rois"] == list(first.recipe.rois)
    assert not {"device", "engine", "weights_file"} & set(first.provenance[1])


def test_the_precision_is_the_stores(begin):
    order, store = begin([1], precision="bfloat16")
    assert (store.recipe.precision, store.provenance(1)["precision"]) == ("bfloat16", "bfloat16")
    assert load_models(order.recipe, order.berg_dir, "cpu")[0].precision == "bfloat16"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subjects": 1}, "subjects are not a list of numbers"),
        ({"subjects": []}, "no subject is given"),
        ({"subjects": [9]}, "no subject 9"),
        ({"dtype": "float64"}, "a store cannot hold this dtype"),
        ({"precision": "float16"}, "Did you mean 'bfloat16'"),
        ({"chunk_images": 0}, "chunk_images of a store is not positive"),
        ({"rois": ["v1V"]}, "Did you mean 'V1v'"),
        ({"rois": "zebra"}, "there is no ROI 'zebra'"),
    ],
)
def test_what_is_not_accepted_is_said(begin, options, message):
    with pytest.raises(InvalidParameterError, match=message):
        begin(**options)


def test_opened_it_gives_the_store(begin):
    order, store = begin()
    assert order.open_store(store.path).recipe == Store.open(store.path).recipe
    assert order.open_store(store.path.with_name("none")) is None
