"""What a run is said to take, beside what it takes; refusals."""

from collections import namedtuple
from dataclasses import replace

import pytest

from berg import resources
from berg.errors import ResourceError
from berg.stores import plan as planning
from berg.stores.arrays import plan_arrays
from berg.stores.plan import check_disk, check_memory, plan_run
from berg.stores.recipe import Recipe
from store_fixture import N_COMPONENTS, N_IMAGES, N_VERTICES, NAMES, RECIPE, create, fill

FULL = Recipe(
    model_id="m",
    subjects=tuple(range(1, 9)),
    rois=(),
    dtype="scores",
    n_images=1_000_000,
    images_sha256="",
    chunk_images=1024,
    weights_sha256=("",) * 8,
    network_sha256="",
    berg_version="1.0",
)
MEAN_NAME = sum(len(name.encode()) for name in NAMES) / N_IMAGES


def plan_full(recipe=FULL, n_done=0, **options):
    arrays = plan_arrays(recipe, 250, dict.fromkeys(recipe.subjects, (163_842, 163_842)))
    return plan_run(
        recipe,
        arrays,
        n_done=n_done,
        n_features=205_672,
        n_components=250,
        name_bytes=30,
        **options,
    )


def plan_small(recipe, n_done=0):
    arrays = plan_arrays(recipe, N_COMPONENTS, N_VERTICES)
    return plan_run(
        recipe,
        arrays,
        n_done=n_done,
        n_features=10,
        n_components=N_COMPONENTS,
        name_bytes=MEAN_NAME,
    )


@pytest.mark.parametrize("dtype", ["scores", "float32", "float16"])
def test_the_bytes_of_output_are_those_on_disk(tmp_path, dtype):
    store = fill(create(tmp_path / "s.zarr", dtype=dtype))
    chunks = [path for path in store.path.rglob("c/**/*") if path.is_file()]
    on_disk = sum(path.stat().st_size for path in chunks)
    # Names are counted by their mean, and each of their files has 8 bytes of its own.
    slack = store.recipe.n_chunks * (8 + 2 * store.recipe.chunk_images)
    assert plan_small(store.recipe).store_bytes == pytest.approx(on_disk, abs=slack)


def test_a_million_images_of_eight_subjects_take_8_gb():
    plan = plan_full()
    assert plan.n_chunks == 977
    assert plan.store_bytes == pytest.approx(8 * 1_000_000 * 1000, rel=0.02)
    assert plan.missing_bytes == plan.store_bytes
    responses = plan_full(replace(FULL, dtype="float32", chunk_images=128))
    assert responses.store_bytes == pytest.approx(8 * 1_000_000 * 2 * 163_842 * 4, rel=0.01)


def test_what_is_done_is_credited():
    done = plan_full(n_done=900)
    assert done.missing_bytes == pytest.approx(plan_full().store_bytes * 77 / 977, rel=0.01)
    assert done.store_bytes == plan_full().store_bytes
    assert plan_full(n_done=977).missing_bytes == 0


def test_memory_does_not_grow_with_the_number_of_images():
    more = plan_full(replace(FULL, n_images=100_000_000))
    assert more.worker_bytes == plan_full().worker_bytes


def test_weights_are_shared_where_they_are_mapped():
    one, four = plan_full(n_workers=1), plan_full(n_workers=4)
    assert four.machine_bytes - one.machine_bytes == 3 * one.own_bytes
    held = plan_full(n_workers=4, mapped=False)
    weights = 8 * 205_672 * 250 * 4
    assert held.own_bytes - four.own_bytes == weights == four.shared_bytes - held.shared_bytes


def test_responses_take_the_regressions_and_one_subjects_chunk():
    scores = plan_full(replace(FULL, chunk_images=128))
    responses = plan_full(replace(FULL, dtype="float32", chunk_images=128))
    assert responses.shared_bytes - scores.shared_bytes == 8 * 2 * 163_842 * 251 * 4
    chunk = 128 * 2 * 163_842 * 4
    assert chunk < responses.own_bytes - scores.own_bytes < 1.5 * chunk


def test_the_plan_says_all_that_a_user_decides_by():
    assert str(plan_full(n_done=3, n_workers=2)).startswith(
        "1,000,000 images in 977 chunks (3 done already); 8.1 GB of output, 8.0 GB to write"
    )
    assert "GB of memory a worker, " in str(plan_full(n_workers=2))
    assert "GB of memory, " in str(plan_full())
    assert str(plan_small(replace(RECIPE, chunk_images=N_IMAGES))).startswith(
        f"{N_IMAGES} images in 1 chunk;"
    )


def set_free_disk(monkeypatch, n_bytes):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(resources.shutil, "disk_usage", lambda path: usage(0, 0, n_bytes))


@pytest.mark.parametrize(
    ("dtype", "n_images", "spare"),
    [
        ("float32", 1_000_000, lambda missing: 10**9),
        ("scores", 1000, lambda n: n // 10 + 50 * 10**6),
    ],
)
def test_a_disk_too_small_is_refused_with_some_to_spare(
    tmp_path, monkeypatch, dtype, n_images, spare
):
    plan = plan_full(replace(FULL, dtype=dtype, n_images=n_images))
    path = tmp_path / "not" / "there" / "s.zarr"
    needed = plan.missing_bytes + spare(plan.missing_bytes)
    set_free_disk(monkeypatch, needed)
    check_disk(plan, path)
    set_free_disk(monkeypatch, needed - 1)
    with pytest.raises(ResourceError, match=r"too little space on the disk of .*s\.zarr"):
        check_disk(plan, path)
    set_free_disk(monkeypatch, 0)
    check_disk(plan_full(n_done=977), path)  # nothing to write


def test_memory_too_small_is_refused(monkeypatch):
    memory = namedtuple("memory", "available")
    plan = plan_full(n_workers=4)
    monkeypatch.setattr(planning.psutil, "virtual_memory", lambda: memory(plan.machine_bytes))
    check_memory(plan)
    monkeypatch.setattr(planning.psutil, "virtual_memory", lambda: memory(plan.machine_bytes - 1))
    with pytest.raises(ResourceError, match=r"there is too little memory\n.*\n.*fewer --workers"):
        check_memory(plan)


def test_the_smallest_worker_decides():
    plan = plan_full(n_workers=1)
    enough = plan.worker_bytes
    check_memory(plan, {"tcp://a:1": enough, "tcp://b:2": enough + 1})
    check_memory(plan, {})  # workers without a limit
    with pytest.raises(ResourceError, match="too little memory of the worker tcp://b:2"):
        check_memory(plan, {"tcp://a:1": enough, "tcp://b:2": enough - 1})
