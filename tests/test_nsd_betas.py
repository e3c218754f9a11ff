import os
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from berg.errors import FileFormatError, InvalidParameterError, NSDFilesNotFoundError
from berg.layout import NSDFiles
from berg.nsd import betas as betas_module
from berg.nsd.betas import BetaFile, open_betas
from berg.nsd.design import Design
from berg.nsd.sessions import find_sessions
from berg.nsd.simulated import marker_path
from nsd_tree_fixture import N_TRIALS, N_VERTICES, write_mgh, write_nsd

HEADER_BYTES = 284


@pytest.fixture
def stored(tmp_path, rng):
    """A file of betas, with what is in it: (n_vertices, n_trials)."""
    values = rng.standard_normal((13, 7)).astype(np.float32)
    values[3] = np.nan
    values[5, 2] = np.inf
    path = tmp_path / "lh.betas_session01.mgh"
    write_mgh(path, values)
    return path, values


def test_reads_what_nibabel_wrote(stored):
    path, values = stored
    nibabels = np.asarray(nibabel.MGHImage.from_bytes(path.read_bytes()).dataobj)
    betas = open_betas(path)
    assert betas == BetaFile(path, 13, 7)
    read = betas.read()
    assert read.dtype == np.float32
    assert read.dtype.isnative
    assert read.flags.c_contiguous
    np.testing.assert_array_equal(read, values.T)
    np.testing.assert_array_equal(read, nibabels[:, 0, 0].T)


@pytest.mark.parametrize("block_bytes", [4, 12, 100, 364, 10_000])
def test_the_size_of_a_block_does_not_matter(stored, monkeypatch, block_bytes):
    path, values = stored
    monkeypatch.setattr(betas_module, "_BLOCK_BYTES", block_bytes)
    np.testing.assert_array_equal(open_betas(path).read(), values.T)


def test_fills_an_array_of_the_caller(stored):
    path, values = stored
    out = np.empty((7, 13), np.float32)
    assert open_betas(path).read(out) is out
    np.testing.assert_array_equal(out, values.T)


@pytest.mark.parametrize(
    "out",
    [
        np.empty((13, 7), np.float32),
        np.empty((7, 13), np.float64),
        np.empty((7, 13), ">f4"),
        np.empty((13, 7), np.float32).T,
        np.broadcast_to(np.float32(0), (7, 13)),
    ],
)
def test_refuses_an_array_that_cannot_hold_the_trials(stored, out):
    with pytest.raises(InvalidParameterError, match=r"accepted: float32 \(7, 13\)"):
        open_betas(stored[0]).read(out)


@settings(max_examples=30, deadline=None)
@given(trials=st.lists(st.integers(0, 6), max_size=12))
def test_reads_single_trials_in_any_order(tmp_path_factory, trials):
    path = tmp_path_factory.getbasetemp() / "rh.betas.mgh"
    values = np.random.default_rng(1).standard_normal((6, 7)).astype(np.float32)
    if not path.exists():
        write_mgh(path, values)
    read = open_betas(path).read_trials(trials)
    assert read.shape == (len(trials), 6)
    np.testing.assert_array_equal(read, values.T[np.array(trials, int)])


@pytest.mark.parametrize("trials", [[7], [0, -1]])
def test_trials_that_are_not_there(stored, trials):
    with pytest.raises(InvalidParameterError, match="accepted: 0 to 6"):
        open_betas(stored[0]).read_trials(trials)


def test_a_footer_is_allowed(stored):
    path, values = stored
    with path.open("ab") as file:
        file.write(b"footer" * 5)
    np.testing.assert_array_equal(open_betas(path).read(), values.T)


def test_more_trials_than_the_header_says(stored):
    path, values = stored
    write_mgh(path, values)
    patched(path, 16, struct.pack(">i", 6))
    with pytest.raises(FileFormatError, match="more trials than its header says"):
        open_betas(path)


@pytest.mark.parametrize("vertices", [slice(0, 3), slice(4, 5), slice(10, 13), slice(0, 13)])
def test_reads_a_part_of_the_vertices(stored, vertices):
    path, values = stored
    read = open_betas(path).read(vertices=vertices)
    np.testing.assert_array_equal(read, values[vertices].T)
    with pytest.raises(InvalidParameterError, match="cannot hold"):
        open_betas(path).read(np.empty((7, 2), np.float32), vertices=vertices)


def patched(path: Path, offset: int, new: bytes) -> None:
    raw = bytearray(path.read_bytes())
    raw[offset : offset + len(new)] = new
    path.write_bytes(raw)


@pytest.mark.parametrize(
    ("offset", "new", "match"),
    [
        (0, struct.pack("<i", 1), "little-endian numbers"),
        (0, struct.pack(">i", 7), "version 7"),
        (0, b"\x1f\x8b\x08\x00", "version 529205248"),  # gzip
        (20, struct.pack(">i", 0), "numbers of type 0"),
        (20, struct.pack(">i", 4), "type 3, float32"),
        (8, struct.pack(">i", 2), r"shape \(13, 2, 1, 7\)"),
        (4, struct.pack(">i", -13), r"shape \(-13, 1, 1, 7\)"),
        (16, struct.pack(">i", 0), r"shape \(13, 1, 1, 0\)"),
        (16, struct.pack(">i", 8), "truncated"),
    ],
)
def test_headers_that_are_not_of_betas(stored, offset, new, match):
    path, _ = stored
    patched(path, offset, new)
    with pytest.raises(FileFormatError, match=match) as raised:
        open_betas(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("n_bytes", [0, 283, HEADER_BYTES, HEADER_BYTES + 13 * 7 * 4 - 1])
def test_files_that_are_cut_off(stored, n_bytes):
    path, _ = stored
    os.truncate(path, n_bytes)
    with pytest.raises(FileFormatError, match=r"a header of 284|648 bytes, for 7"):
        open_betas(path)


def test_files_that_do_not_fit(stored):
    path, _ = stored
    assert open_betas(path, n_trials=7, n_vertices=13).n_trials == 7
    with pytest.raises(FileFormatError, match="another number of trials") as raised:
        open_betas(path, n_trials=750)
    assert "got:      7 trials" in str(raised.value)
    with pytest.raises(FileFormatError, match="another number of vertices"):
        open_betas(path, n_vertices=163_842)
    with pytest.raises(NSDFilesNotFoundError, match=r"lh\.absent\.mgh not found"):
        open_betas(path.with_name("lh.absent.mgh"))


def test_files_that_change_after_they_were_opened(stored, rng):
    path, _ = stored
    betas = open_betas(path)
    write_mgh(path, rng.standard_normal((7, 13)).astype(np.float32))
    with pytest.raises(FileFormatError, match="changed while it was read"):
        betas.read()
    os.truncate(path, 600)
    with pytest.raises(FileFormatError, match="truncated"):
        betas.read_trials([0])


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda path: os.truncate(path, 400), "it was cut off"),
        (lambda path: os.utime(path, ns=(1, 1)), "written to meanwhile"),
    ],
)
def test_files_that_change_while_they_are_read(stored, monkeypatch, change, match):
    path, _ = stored
    betas = open_betas(path)
    fill = BetaFile._fill

    def changing(self, file, first, out):
        change(path)
        fill(self, file, first, out)

    monkeypatch.setattr(BetaFile, "_fill", changing)
    with pytest.raises(FileFormatError, match=match):
        betas.read()


def test_a_trial_past_four_gigabytes_is_found(tmp_path):
    """Offsets are no 32-bit numbers: a sparse file, of which one trial is written."""
    path = tmp_path / "lh.betas_session01.mgh"
    n_vertices, n_trials = 2**20, 1100
    row = np.arange(n_vertices, dtype=">f4")
    with path.open("wb") as file:
        file.write(struct.pack(">7i", 1, n_vertices, 1, 1, n_trials, 3, 0))
        file.seek(HEADER_BYTES + 1050 * row.nbytes)
        file.write(row)
        file.truncate(HEADER_BYTES + n_trials * row.nbytes)
    read = open_betas(path).read_trials([1050, 1049])
    np.testing.assert_array_equal(read[0], row)
    assert not read[1].any()


def nsd_design(n_sessions=40, trials_per_session=750):
    n_trials = n_sessions * trials_per_session
    return Design(np.zeros(n_trials, np.int64), np.zeros((8, 3), np.int64), 1, trials_per_session)


def touch_sessions(files, subject, sessions, hemis=("lh", "rh")):
    for session in sessions:
        for hemi in hemis:
            path = files.betas(subject, hemi, session)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()


@pytest.fixture
def tree(tmp_path):
    return write_nsd(tmp_path)


def test_finds_all_sessions_or_the_first(tree):
    design = nsd_design(3, N_TRIALS)
    assert find_sessions(tree.files, 1, design) == 3
    assert find_sessions(tree.files, 1, design, 2) == 2
    (tree.files.betas(1, "lh", 1).parent / "lh.betas_session04.mgh.part").touch()
    (tree.files.betas(1, "lh", 1).parent / "rh.betas_session4.mgh").touch()
    assert find_sessions(tree.files, 1, design) == 3
    assert open_betas(tree.files.betas(1, "rh", 2), n_vertices=N_VERTICES).n_trials == N_TRIALS


@pytest.mark.parametrize("n_sessions", [None, 1, 3])
def test_a_gap_is_always_an_error(tree, n_sessions):
    tree.files.betas(1, "lh", 2).unlink()
    tree.files.betas(1, "rh", 2).unlink()
    with pytest.raises(NSDFilesNotFoundError, match="2 files of the Natural") as raised:
        find_sessions(tree.files, 1, nsd_design(3, N_TRIALS), n_sessions)
    folder = "nsddata_betas/ppdata/subj01/fsaverage/betas_fithrf_GLMdenoise_RR"
    assert f"{folder}/lh.betas_session02.mgh" in str(raised.value)
    assert f"{folder}/rh.betas_session02.mgh" in str(raised.value)
    assert "session01" not in str(raised.value)


def test_one_hemisphere_is_not_enough(tree):
    tree.files.betas(2, "rh", 3).unlink()
    with pytest.raises(NSDFilesNotFoundError, match=r"subj02.*rh\.betas_session03\.mgh"):
        find_sessions(tree.files, 2, nsd_design(3, N_TRIALS))


def test_sessions_asked_for_must_be_there(tree):
    with pytest.raises(NSDFilesNotFoundError, match=r"lh\.betas_session04") as raised:
        find_sessions(tree.files, 1, nsd_design(9, N_TRIALS), 4)
    assert "session03" not in str(raised.value)
    with pytest.raises(NSDFilesNotFoundError, match=r"rh\.betas_session01"):
        find_sessions(tree.files, 5, nsd_design(9, N_TRIALS))
    with pytest.raises(InvalidParameterError, match=r"accepted: 1 to 3"):
        find_sessions(tree.files, 1, nsd_design(3, N_TRIALS), 4)
    with pytest.raises(InvalidParameterError, match="n_sessions=0"):
        find_sessions(tree.files, 1, nsd_design(3, N_TRIALS), 0)


def test_only_files_count_and_only_under_their_name(tree):
    design = nsd_design(9, N_TRIALS)
    for hemi in ("lh", "rh"):
        two, three = (tree.files.betas(1, hemi, n) for n in (2, 3))
        three.rename(two.with_name(f"{hemi}.betas_session003.mgh"))
    with pytest.raises(NSDFilesNotFoundError, match=r"lh\.betas_session03\.mgh"):
        find_sessions(tree.files, 1, design, 3)
    with pytest.raises(NSDFilesNotFoundError, match=r"lh\.betas_session03\.mgh"):
        find_sessions(tree.files, 1, design)  # a name is there: it was meant to be used
    assert find_sessions(tree.files, 1, design, 2) == 2
    two.unlink()
    two.symlink_to("nowhere")
    with pytest.raises(NSDFilesNotFoundError, match=r"no\n.*rh\.betas_session02\.mgh"):
        find_sessions(tree.files, 1, design, 2)
    two.unlink()
    two.mkdir()
    with pytest.raises(NSDFilesNotFoundError, match=r"no\n.*rh\.betas_session02\.mgh"):
        find_sessions(tree.files, 1, design, 2)


def test_the_next_step_names_the_sessions_that_are_complete(tree):
    design = nsd_design(3, N_TRIALS)
    tree.files.betas(1, "rh", 3).unlink()
    with pytest.raises(NSDFilesNotFoundError) as raised:
        find_sessions(tree.files, 1, design)
    assert "of subject 1 sessions 1 to 2 are complete, and `--sessions 2`" in str(raised.value)
    assert "if nothing later is there: here session 3 is" in str(raised.value)
    tree.files.betas(1, "lh", 3).unlink()
    with pytest.raises(NSDFilesNotFoundError, match=r"`--sessions 2` uses only these$"):
        find_sessions(tree.files, 1, design, 3)
    assert find_sessions(tree.files, 1, design, 2) == 2


def test_a_simulated_subject_needs_the_sessions_that_were_simulated(tree):
    design = nsd_design(3, N_TRIALS)
    marker = marker_path(tree.files.nsd_dir)
    marker.parent.mkdir()
    marker.write_text('{"simulated": true, "sessions": {"1": 3, "2": 2}}')
    for subject in (1, 2):
        for hemi in ("lh", "rh"):
            tree.files.betas(subject, hemi, 3).unlink()
    with pytest.raises(NSDFilesNotFoundError, match=r"lh\.betas_session03\.mgh"):
        find_sessions(tree.files, 1, design)
    assert find_sessions(tree.files, 1, design, 2) == 2
    assert find_sessions(tree.files, 2, design) == 2
    marker.write_text('{"simulated": true}')  # as older ones are
    assert find_sessions(tree.files, 1, design) == 2


def test_more_sessions_than_the_design_orders(tree):
    with pytest.raises(FileFormatError, match="more trials than the design orders"):
        find_sessions(tree.files, 1, nsd_design(2, N_TRIALS))


@pytest.mark.parametrize(("subject", "completed"), [(1, 40), (3, 32), (8, 30)])
def test_of_nsd_itself_all_completed_sessions_are_needed(tmp_path, subject, completed):
    files = NSDFiles(tmp_path)
    touch_sessions(files, subject, range(1, completed))
    with pytest.raises(NSDFilesNotFoundError, match=f"`--sessions {completed - 1}`") as raised:
        find_sessions(files, subject, nsd_design())
    assert f"lh.betas_session{completed}.mgh" in str(raised.value)
    assert f"session{completed + 1}" not in str(raised.value)
    assert find_sessions(files, subject, nsd_design(), completed - 1) == completed - 1
    touch_sessions(files, subject, [completed])
    assert find_sessions(files, subject, nsd_design()) == completed
