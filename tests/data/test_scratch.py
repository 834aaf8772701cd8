import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from nisf.data import scratch
from nisf.data.scratch import by_frame, fits_into_files, let_go, packed, room, use_scratch, voxel_bytes


@pytest.fixture
def in_files(monkeypatch, tmp_path):
    """Every array counts as large, and is made in a folder of its own."""
    monkeypatch.setattr(scratch, "LARGE", 1)
    monkeypatch.setattr(scratch, "_folder", tmp_path)
    return tmp_path


def test_arrays_in_files_are_like_any_other(in_files):
    array = room((5, 4, 3, 2), np.float32)
    assert scratch._mapping(array[1:, :, 0]) is not None
    assert array.flags.f_contiguous
    wanted = np.random.default_rng(0).normal(size=array.shape).astype(np.float32)
    array[...] = wanted
    let_go(array[..., 1])
    np.testing.assert_array_equal(array, wanted)
    assert list(in_files.iterdir()) == []  # it has no name


def test_small_arrays_stay_in_memory():
    array = room((10, 10), np.uint8)
    assert scratch._mapping(array) is None
    let_go(array)
    assert array.flags.f_contiguous


def test_parts_of_something_large_go_to_files(monkeypatch, tmp_path):
    monkeypatch.setattr(scratch, "LARGE", 1000)
    monkeypatch.setattr(scratch, "_folder", tmp_path)
    assert scratch._mapping(room((10,), np.uint8)) is None
    assert scratch._mapping(room((10,), np.uint8, part_of=1000)) is not None


def test_working_memory_says_what_is_large(tmp_path):
    use_scratch(tmp_path, memory_mb=4.0)
    try:
        assert scratch._mapping(room((2**20 - 1,), np.uint8)) is None
        assert scratch._mapping(room((2**20,), np.uint8)) is not None
    finally:
        use_scratch(None)
    assert scratch._mapping(room((2**20,), np.uint8)) is None


def test_no_place_on_the_disk_is_memory_then(in_files, monkeypatch):
    use_scratch(in_files / "missing")
    assert not fits_into_files(10)
    assert scratch._mapping(room((10,), np.uint8)) is None
    use_scratch(in_files)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 95, 5))
    assert not fits_into_files(10)
    monkeypatch.undo()
    assert fits_into_files(scratch.LARGE)


@pytest.mark.usefixtures("in_files")
@pytest.mark.parametrize("flip", [False, True])
def test_packing_changes_the_memory_alone(flip):
    array = np.random.default_rng(0).integers(0, 99, (4, 5, 3, 6, 1)).astype(np.int16)
    array = array[::-1] if flip else np.asfortranarray(array)
    out = packed(array)
    np.testing.assert_array_equal(out, array)
    assert out.flags.f_contiguous
    assert (out is array) is not flip


@pytest.mark.parametrize("shape", [(3, 4, 2), (3, 4, 2, 5), (3, 4, 2, 5, 2)])
def test_voxels_as_a_file_has_them(shape):
    array = np.random.default_rng(0).integers(0, 999, shape).astype(np.int16)[::-1]
    stored = np.dtype(">i2")
    assert b"".join(voxel_bytes(array, stored)) == array.astype(stored).tobytes(order="F")


def test_frames_in_their_order():
    array = np.arange(24).reshape(1, 2, 3, 4)
    assert [(t, int(frame.sum())) for t, frame in by_frame(array)] == [
        (t, int(array[..., t].sum())) for t in range(4)
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what is resident")
def test_pages_are_given_back(tmp_path):
    """400 MB are written and read, frame by frame, and 100 MB are never there at once."""
    code = """
import resource, sys
import numpy as np
from nisf.data.scratch import by_frame, let_go, room, use_scratch
use_scratch(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
array = room((100, 100, 100, 100), np.float32)
for t, frame in by_frame(array):
    frame[...] = t
assert sum(float(frame[0, 0, 0]) for _, frame in by_frame(array)) == 4950
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ,
        check=True,
    )
    assert int(found.stdout) < 100 * 1024
