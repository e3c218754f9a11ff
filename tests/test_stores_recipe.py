import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from berg.errors import FileFormatError, InvalidParameterError
from berg.stores import DEFAULT_CHUNK, Recipe
from store_fixture import RECIPE


@given(n_images=st.integers(1, 10**9), chunk_images=st.integers(1, 10**4), data=st.data())
def test_chunks_are_all_images_each_once(n_images, chunk_images, data):
    recipe = replace(RECIPE, n_images=n_images, chunk_images=chunk_images)
    i = data.draw(st.integers(0, recipe.n_chunks - 1))
    chunk = recipe.chunk(i)
    assert 1 <= chunk.stop - chunk.start <= chunk_images
    assert chunk.start == (recipe.chunk(i - 1).stop if i else 0)
    assert recipe.chunk(recipe.n_chunks - 1).stop == n_images
    with pytest.raises(InvalidParameterError, match=f"no chunk {recipe.n_chunks}"):
        recipe.chunk(recipe.n_chunks)


def test_chunks_of_a_small_recipe_by_hand():
    recipe = replace(RECIPE, n_images=10, chunk_images=4)
    chunks = [recipe.chunk(i) for i in range(recipe.n_chunks)]
    assert chunks == [slice(0, 4), slice(4, 8), slice(8, 10)]


def test_default_chunks_are_whole_batches():
    assert all(n_images % 128 == 0 for n_images in DEFAULT_CHUNK.values())


@given(
    subjects=st.lists(st.integers(1, 8), min_size=1, unique=True),
    rois=st.lists(st.text(), unique=True),
    dtype=st.sampled_from(["scores", "float32", "float16"]),
    images=st.text(),
)
def test_a_recipe_survives_json(subjects, rois, dtype, images):
    recipe = replace(
        RECIPE,
        subjects=tuple(subjects),
        weights_sha256=tuple(f"{s}" * 64 for s in subjects),
        rois=tuple(rois),
        dtype=dtype,
        images_sha256=images,
    )
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model_id": "other"}, f"model: the store has {RECIPE.model_id}; asked for other"),
        (
            {"subjects": (1, 2)},
            "subjects: the store has 1, 3; asked for 1, 2",
        ),
        ({"rois": ("V1v",)}, "regions: the store has the whole surface; asked for V1v"),
        ({"dtype": "float16"}, "dtype: the store has scores; asked for float16"),
        ({"n_images": 24}, "number of images: the store has 23; asked for 24"),
        (
            {"images_sha256": "0" * 64},
            "images: other names, order, sizes or times of change than the store's; names count "
            "as they are given, so run it from the same folder with the same paths",
        ),
        ({"chunk_images": 6}, "chunk: the store has 5; asked for 6"),
        (
            {"weights_sha256": ("2" * 64, "a" * 64)},
            f"weights of subject 3: the store was made with {'3' * 16}…; berg_dir has {'a' * 16}…",
        ),
        (
            {"network_sha256": "b" * 64},
            f"network: the store was made with {'4' * 16}…; this berg has {'b' * 16}…",
        ),
        ({"precision": "bfloat16"}, "precision: the store has float32; asked for bfloat16"),
        ({"berg_version": "1.1"}, "version of berg: the store has 1.0; asked for 1.1"),
    ],
)
def test_a_difference_is_one_sentence(changes, sentence):
    assert RECIPE.differences(replace(RECIPE, **changes)) == [sentence]


def test_the_same_recipe_has_no_difference():
    assert RECIPE.differences(replace(RECIPE)) == []


def test_every_difference_is_told():
    other = replace(RECIPE, dtype="float32", chunk_images=128, images_sha256="")
    assert len(RECIPE.differences(other)) == 3


def test_subjects_in_another_order_are_another_recipe_but_not_other_weights():
    other = replace(RECIPE, subjects=(3, 1), weights_sha256=RECIPE.weights_sha256[::-1])
    assert RECIPE.differences(other) == ["subjects: the store has 1, 3; asked for 3, 1"]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"dtype": "float64"}, "cannot hold"),
        ({"n_images": 0}, "n_images"),
        ({"chunk_images": -1}, "chunk_images"),
        ({"subjects": ()}, "subjects"),
        ({"subjects": (1, 1)}, "each once"),
        ({"subjects": (1,)}, "2 fingerprints, 1 subjects"),
    ],
)
def test_values_are_checked(changes, match):
    with pytest.raises(InvalidParameterError, match=match):
        replace(RECIPE, **changes)


def test_weights_of_a_subject_that_is_not_there():
    assert RECIPE.weights_of(np.int64(3)) == "3" * 64
    with pytest.raises(InvalidParameterError, match="subject 2"):
        RECIPE.weights_of(2)


def without(name):
    return {key: value for key, value in RECIPE.to_json().items() if key != name}


@pytest.mark.parametrize(
    "entries",
    [
        None,
        [],
        {},
        without("dtype"),
        RECIPE.to_json() | {"more": 1},
        RECIPE.to_json() | {"n_images": "23"},
        RECIPE.to_json() | {"n_images": True},
        RECIPE.to_json() | {"n_images": 0},
        RECIPE.to_json() | {"subjects": 1},
        RECIPE.to_json() | {"subjects": ["1", "3"]},
        RECIPE.to_json() | {"rois": "V1v"},
        RECIPE.to_json() | {"dtype": None},
        RECIPE.to_json() | {"format_version": "1"},
    ],
)
def test_what_is_no_recipe_is_refused(entries):
    with pytest.raises(FileFormatError, match="recipe cannot be read"):
        Recipe.from_json(entries)


def test_a_newer_format_is_told():
    with pytest.raises(FileFormatError, match=r"format 2(.|\n)*the berg that made it"):
        Recipe.from_json({"format_version": 2, "new": "things"})
