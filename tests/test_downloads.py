"""Downloads from a real S3 protocol server: what comes, what is compared, what is kept."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import berg
from berg import BERG
from berg.downloads import carry_out, load_manifest, plan_download
from berg.errors import (
    DownloadError,
    FileFormatError,
    FilesDifferError,
    InvalidParameterError,
    ResourceError,
)
from berg.metadata import save_metadata
from conftest import MODEL_ID, REAL_CARD
from downloads_fixture import (
    OBJECTS,
    OF_SUBJECT_1,
    berg_dir,
    fetch,
    found,
    leftovers,
    proxy,
    s3,
    whole,
)
from s3_fixture import FILES, METADATA, PLOTS, WEIGHTS

__all__ = ["berg_dir", "proxy", "s3"]  # fixtures

pytestmark = pytest.mark.enable_socket  # of this machine alone

# --- what comes


def test_a_subject_comes_with_its_plots_and_a_manifest(s3, berg_dir):
    told = fetch(berg_dir)
    assert found(berg_dir) == whole(OF_SUBJECT_1)
    assert leftovers(berg_dir) == []
    text = "\n".join(told)
    assert "To fetch: 1.4 MB in 4 files" in text
    assert REAL_CARD.facts["terms"] in text
    known = load_manifest(REAL_CARD.files(berg_dir).root)
    for key in OF_SUBJECT_1:
        entry = known[(berg_dir / key).relative_to(REAL_CARD.files(berg_dir).root).as_posix()]
        assert entry.sha256 == hashlib.sha256(OBJECTS[key]).hexdigest()
        assert entry.n_bytes == len(OBJECTS[key])
        assert entry.source == f"s3://{REAL_CARD.facts['bucket']}/{key}"


def test_several_subjects_come_together(s3, berg_dir):
    fetch(berg_dir, [1, 2, 1])
    assert found(berg_dir) == OBJECTS


def test_what_is_there_is_compared_and_not_fetched_again(proxy, berg_dir):
    fetch(berg_dir)
    proxy.requests.clear()
    told = fetch(berg_dir)
    assert "Nothing to fetch" in "\n".join(told)
    assert not [request for request in proxy.requests if request.range]


def test_files_that_came_otherwise_are_entered(s3, berg_dir):
    for key in (WEIGHTS, METADATA):
        (berg_dir / key).parent.mkdir(parents=True)
        (berg_dir / key).write_bytes(OBJECTS[key])
    assert {each.status for each in berg.verify(berg_dir)} == {"no record"}
    fetch(berg_dir)
    assert {each.status for each in berg.verify(berg_dir)} == {"ok"}


def test_killed_after_the_name_was_given_it_is_entered_the_next_time(s3, berg_dir):
    fetch(berg_dir)
    files = REAL_CARD.files(berg_dir)
    files.manifest.unlink()
    files.weights_npy(1).with_name(".weights_subject-01.npy.part.journal").write_text("{}")
    fetch(berg_dir)
    assert leftovers(berg_dir) == []
    assert {each.status for each in berg.verify(berg_dir)} == {"ok"}


def test_a_plan_writes_nothing(s3, berg_dir):
    plan = plan_download(MODEL_ID, [1], berg_dir, show_progress=False)
    assert plan.missing_bytes == sum(map(len, whole(OF_SUBJECT_1).values()))
    assert not berg_dir.exists()


def test_names_that_would_leave_the_folder_are_left_out(s3, berg_dir):
    s3.put({f"{PLOTS}/../../outside.png": b"x", f"{PLOTS}/.hidden": b"x", f"{PLOTS}/": b""})
    fetch(berg_dir)
    assert found(berg_dir) == whole(OF_SUBJECT_1)


@pytest.fixture
def no_manifest(monkeypatch) -> None:
    """As on a disk that is read only; root, as whom tests may run, is refused nothing."""

    @contextmanager
    def refuse(path, **_):
        raise ResourceError(f"{path} cannot be written: not even a lock beside it")
        yield

    monkeypatch.setattr("berg.downloads.manifest.hold", refuse)


def test_files_that_are_there_need_no_manifest(s3, berg_dir, no_manifest):
    for key in OF_SUBJECT_1:
        (berg_dir / key).parent.mkdir(parents=True, exist_ok=True)
        (berg_dir / key).write_bytes(OBJECTS[key])
    told = fetch(berg_dir)
    assert sum("cannot be entered into the manifest" in line for line in told) == 1


def test_what_could_not_be_entered_is_not_fetched(proxy, berg_dir, no_manifest):
    with pytest.raises(ResourceError, match=r"manifest\.json cannot be written"):
        fetch(berg_dir)
    assert not [request for request in proxy.requests if request.range]


def test_plots_have_one_lock(s3, berg_dir):
    fetch(berg_dir)
    folder = REAL_CARD.files(berg_dir).accuracy_plots
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_the_command_that_does_the_same_has_its_options(s3, berg_dir, monkeypatch):
    def command(**options):
        return plan_download(MODEL_ID, 1, berg_dir, show_progress=False, **options).command

    plain = f"berg download {MODEL_ID} --subject 1 --berg-dir {berg_dir}"
    assert command() == plain  # the endpoint is that of the environment
    monkeypatch.delenv("BERG_ENDPOINT_URL")
    given = f"{plain} --endpoint-url {s3.url}"
    assert command(endpoint_url=s3.url) == given
    assert command(endpoint_url=s3.url, force=True) == f"{given} --force"


def test_a_password_in_the_endpoint_is_neither_shown_nor_recorded(s3, berg_dir):
    secret = s3.url.replace("http://", "http://me:secret@")
    told = fetch(berg_dir, endpoint_url=secret)
    manifest = REAL_CARD.files(berg_dir).manifest.read_text()
    assert "secret" not in manifest + "".join(told)
    assert s3.url in manifest
    with pytest.raises(DownloadError) as raised:
        fetch(berg_dir, endpoint_url="http://me:secret@127.0.0.1:9")
    assert "secret" not in str(raised.value)


# --- what is there already and is another


def test_other_weights_are_not_replaced_unasked(s3, berg_dir):
    path = berg_dir / WEIGHTS
    path.parent.mkdir(parents=True)
    path.write_bytes(b"trained here")
    with pytest.raises(FilesDifferError, match="12 bytes, where the bucket has 1,200,007") as error:
        fetch(berg_dir)
    assert f"berg download {MODEL_ID} --subject 1 --berg-dir {berg_dir} --force" in str(error.value)
    assert found(berg_dir) == {WEIGHTS: b"trained here"}
    fetch(berg_dir, force=True)
    assert found(berg_dir) == whole(OF_SUBJECT_1)
    assert {each.status for each in berg.verify(berg_dir)} == {"ok"}


def test_a_damaged_file_is_called_so_and_replaced_with_force(s3, berg_dir):
    fetch(berg_dir)
    path = berg_dir / WEIGHTS
    path.write_bytes(OBJECTS[WEIGHTS][:-1] + b"!")
    (damaged,) = (each for each in berg.verify(berg_dir) if each.status != "ok")
    assert (damaged.path, damaged.status) == (path, "damaged")
    with pytest.raises(FilesDifferError, match="damaged or changed"):
        fetch(berg_dir)
    fetch(berg_dir, force=True)
    assert found(berg_dir) == whole(OF_SUBJECT_1)


def test_a_newer_version_in_the_bucket_is_told(s3, berg_dir):
    fetch(berg_dir)
    s3.put({METADATA: b"another version"})
    with pytest.raises(FilesDifferError, match="the bucket has another version now"):
        fetch(berg_dir)
    assert found(berg_dir) == whole(OF_SUBJECT_1)
    fetch(berg_dir, force=True)
    assert found(berg_dir)[METADATA] == b"another version"


def test_own_plots_are_kept(s3, berg_dir):
    own = berg_dir / PLOTS / "average.svg"
    own.parent.mkdir(parents=True)
    own.write_bytes(b"drawn here")
    assert "kept; what is there is" in "\n".join(fetch(berg_dir))
    assert own.read_bytes() == b"drawn here"


def test_a_simulated_subject_is_not_mixed_with_a_real_one(s3, berg_dir, tiny_metadata):
    path = REAL_CARD.files(berg_dir).metadata(1)
    save_metadata(path, {**tiny_metadata, "provenance": {"simulated": True}})
    before = path.read_bytes()
    with pytest.raises(FilesDifferError, match="SIMULATED"):
        fetch(berg_dir)
    assert found(berg_dir) == {METADATA: before}


# --- converted weights


@pytest.fixture
def real_files(s3, tiny) -> Path:
    """The bucket holds the tiny model's subject, and a berg_dir has been downloaded from it."""
    for path, key in ((tiny.weights_npy, WEIGHTS), (tiny.metadata_npy, METADATA)):
        s3.put({key: path.read_bytes()})
    berg_dir = tiny.berg_dir.with_name("downloaded")
    BERG(berg_dir, download=True).get_model_metadata(MODEL_ID, 1)
    assert list(found(berg_dir)) == [METADATA]
    return berg_dir


def test_what_is_absent_is_fetched_by_itself(real_files, tiny, images):
    berg_ = BERG(real_files, download=True)
    model = berg_.get_encoding_model(MODEL_ID, "cpu", {"roi": "V1v"}, subject=1)
    own = BERG(tiny.berg_dir).get_encoding_model(MODEL_ID, "cpu", {"roi": "V1v"}, subject=1)
    for ours, expected in zip(
        model.generate_response(images), own.generate_response(images), strict=True
    ):
        np.testing.assert_array_equal(ours, expected)
    # And once it is there, nothing is asked of the network.
    os.environ["BERG_OFFLINE"] = "1"
    try:
        berg_.get_encoding_models(MODEL_ID, [1], "cpu")
    finally:
        del os.environ["BERG_OFFLINE"]


def test_nothing_is_fetched_beside_another_model(real_files):
    path = real_files / METADATA
    path.write_bytes(path.read_bytes() + b"changed")
    before = path.read_bytes()
    with pytest.raises(FilesDifferError):
        BERG(real_files, download=True).get_encoding_model(MODEL_ID, subject=1)
    assert found(real_files) == {METADATA: before}


def test_without_download_the_exact_command_is_told(tiny):
    tiny.weights_npy.unlink()
    command = f"berg download {MODEL_ID} --subject 1 --berg-dir {tiny.berg_dir}"
    with pytest.raises(FileNotFoundError, match=command):
        BERG(tiny.berg_dir).get_encoding_model(MODEL_ID, subject=1)


def test_stale_conversions_are_noticed_and_go_with_force(s3, real_files):
    fetch(real_files)
    converted, _ = BERG(real_files).convert_weights(MODEL_ID, subject=1)
    assert "ok" in {each.status for each in berg.verify(real_files) if each.path == converted}
    # The bucket's weights become others, and are fetched with --force.
    s3.put({WEIGHTS: b"newer weights"})
    told = fetch(real_files, force=True)
    assert not converted.exists()
    assert any("is removed" in line for line in told)


def test_weights_are_not_put_beside_a_conversion_of_others(s3, real_files):
    fetch(real_files)
    converted, _ = BERG(real_files).convert_weights(MODEL_ID, subject=1)
    npy = real_files / WEIGHTS
    npy.unlink()
    s3.put({WEIGHTS: b"newer weights"})
    with pytest.raises(FilesDifferError, match="made from other weights"):
        fetch(real_files)
    # Of the same size as those that it was made from, it shows only when they are here.
    s3.put({WEIGHTS: bytes(int(npy_bytes(converted)))})
    with pytest.raises(FilesDifferError, match="made from other weights"):
        fetch(real_files)
    assert not npy.exists()
    assert converted.exists()


def npy_bytes(converted: Path) -> str:
    from berg.converted import read_info

    return read_info(converted)["source_bytes"]


def test_verify_sees_conversions_of_other_weights(real_files):
    fetch(real_files)
    converted, _ = BERG(real_files).convert_weights(MODEL_ID, subject=1)
    other = converted.with_name("weights_subject-02.npy")
    shutil.copy(converted, other.with_suffix(".safetensors"))
    other.write_bytes(b"others")
    statuses = {each.path.name: each.status for each in berg.verify(real_files)}
    assert statuses["weights_subject-02.safetensors"] == "damaged"
    assert statuses["weights_subject-02.npy"] == "no record"
    converted.write_bytes(b"no weights")
    statuses = {each.path.name: each.status for each in berg.verify(real_files)}
    assert statuses[converted.name] == "damaged"


def test_metadata_are_not_put_beside_a_conversion_of_others(s3, real_files):
    """Weights that are there as .safetensors alone are compared, and not fetched for that."""
    fetch(real_files)
    converted, _ = BERG(real_files).convert_weights(MODEL_ID, subject=1)
    for key in (WEIGHTS, METADATA):
        (real_files / key).unlink()
    before = set(found(real_files))
    BERG(real_files, download=True).get_model_metadata(MODEL_ID, 1)
    assert set(found(real_files)) == before | {METADATA}
    (real_files / METADATA).unlink()
    s3.put({WEIGHTS: b"newer weights"})
    with pytest.raises(FilesDifferError, match="made from other weights"):
        BERG(real_files, download=True).get_model_metadata(MODEL_ID, 1)
    assert set(found(real_files)) == before
    assert converted.exists()


# --- verify


def test_verify_reads_converted_weights(real_files):
    fetch(real_files)
    converted, _ = BERG(real_files).convert_weights(MODEL_ID, subject=1)

    def check() -> str:
        (each,) = (each for each in berg.verify(real_files) if each.path == converted)
        return each.status

    assert check() == "ok"
    whole = converted.read_bytes()
    for at in (-1, -len(whole) // 2):
        spoilt = bytearray(whole)
        spoilt[at] ^= 1
        converted.write_bytes(spoilt)
        assert check() == "damaged"
    # A file of before there was a checksum: its header alone would not show what is damaged.
    converted.write_bytes(whole.replace(b"arrays_sha256", b"nothing_known"))
    assert check() == "no record"


def test_weights_that_are_gone_after_they_were_converted_are_not_missed(real_files):
    fetch(real_files)
    converted, _ = BERG(real_files).convert_weights(MODEL_ID, subject=1)
    (real_files / WEIGHTS).unlink()
    statuses = {each.path: (each.status, each.detail) for each in berg.verify(real_files)}
    assert statuses[real_files / WEIGHTS] == (
        "ok",
        f"removed; {converted.name} was made from it",
    )
    whole = converted.read_bytes()
    converted.write_bytes(whole.replace(b"arrays_sha256", b"nothing_known"))
    assert "missing" not in {each.status for each in berg.verify(real_files)}
    converted.write_bytes(whole[:-1] + b"!")
    statuses = {each.path: each.status for each in berg.verify(real_files)}
    assert statuses[real_files / WEIGHTS] == "missing"
    assert statuses[converted] == "damaged"


def test_verify_misses_what_is_gone(s3, berg_dir):
    fetch(berg_dir)
    (berg_dir / METADATA).unlink()
    statuses = {each.path: each.status for each in berg.verify(berg_dir)}
    assert statuses.pop(berg_dir / METADATA) == "missing"
    assert set(statuses.values()) == {"ok"}


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"format": "berg manifest", "format_version": 2, "files": {}}',
        '{"format": "berg manifest", "format_version": 1, "files": []}',
        '{"format": "berg manifest", "format_version": 1, "files": {"a": {}}}',
        "[" * 100_000,
    ],
)
def test_a_damaged_manifest_is_said(berg_dir, content):
    manifest = REAL_CARD.files(berg_dir).manifest
    manifest.parent.mkdir(parents=True)
    manifest.write_text(content)
    with pytest.raises(FileFormatError, match=r"manifest\.json is damaged"):
        berg.verify(berg_dir)
    with pytest.raises(FileFormatError, match=r"manifest\.json is damaged"):
        fetch(berg_dir)


def test_a_manifest_that_leads_outside_is_refused(s3, berg_dir):
    fetch(berg_dir)
    manifest = REAL_CARD.files(berg_dir).manifest
    content = json.loads(manifest.read_text())
    content["files"]["../../../x"] = next(iter(content["files"].values()))
    manifest.write_text(json.dumps(content))
    with pytest.raises(FileFormatError, match="outside"):
        berg.verify(berg_dir)


def test_verify_needs_a_folder(tmp_path):
    with pytest.raises(InvalidParameterError, match="no such berg_dir"):
        berg.verify(tmp_path / "nowhere")
    assert berg.verify(tmp_path) == []


def test_the_plan_of_an_agreement_is_what_is_carried_out(s3, berg_dir):
    plan = plan_download(MODEL_ID, [1], berg_dir, show_progress=False)
    paths = carry_out(plan, show_progress=False)
    assert {path.relative_to(berg_dir).as_posix() for path in paths} == OF_SUBJECT_1
    assert FILES.root.as_posix() in "\n".join(plan.lines())
