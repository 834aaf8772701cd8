import os
from contextlib import suppress

import numpy as np
import pytest

from nisf.errors import NisfError
from nisf.io.mapped import mapped_arrays, write_arrays

ARRAYS = {
    "a": np.arange(24, dtype=np.float16).reshape(2, 3, 4),
    "b": np.array([-1, 3, 7], dtype=np.int8),
    "c": np.zeros((0, 2), dtype=np.int64),
    "d": np.linspace(0, 1, 5),
    "e": np.arange(6, dtype=np.int16).reshape(2, 3).T,
}
NOTES = {"n": 3, "x": [0.1, None]}


@pytest.fixture
def path(tmp_path):
    write_arrays(tmp_path / "x.safetensors", ARRAYS, NOTES)
    return tmp_path / "x.safetensors"


def test_there_and_back(path):
    found, notes = mapped_arrays(path)
    assert notes == NOTES
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    found["d"][:] = 5  # writing changes no file
    np.testing.assert_array_equal(mapped_arrays(path)[0]["d"], ARRAYS["d"])


def descriptors_of(path):
    """Number of open file descriptors of a file; threads of other tests may open and close others."""
    count = 0
    for number in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # closed since it was listed
            count += os.readlink(f"/proc/self/fd/{number}") == str(path)
    return count


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="nobody says which files are open")
def test_a_file_takes_one_descriptor_at_most(path):
    kept = mapped_arrays(path)
    assert descriptors_of(path.resolve()) <= 1
    del kept
    assert descriptors_of(path.resolve()) == 0


@pytest.mark.parametrize("length", [0, 7, 8, 40, -1])
def test_a_file_that_was_cut_is_refused(path, length):
    whole = path.read_bytes()
    path.write_bytes(whole[:length])
    with pytest.raises(NisfError, match="not a complete file of arrays"):
        mapped_arrays(path)


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{",
        b'{"__metadata__": {"notes": "1"}, "a": {"dtype": "F64", "shape": [2], "data_offsets": [0, 9999]}}',
        b'{"__metadata__": {"notes": "1"}, "a": {"dtype": "X", "shape": [1], "data_offsets": [0, 8]}}',
        b'{"__metadata__": {"notes": "1"}, "a": {"dtype": "F64", "shape": [9], "data_offsets": [0, 8]}}',
        b'{"__metadata__": {"notes": "1"}, "a": {"dtype": "F64", "shape": [1], "data_offsets": [8, 0]}}',
        b'{"a": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}',
    ],
)
def test_a_damaged_header_is_refused(tmp_path, header):
    path = tmp_path / "x"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    with pytest.raises(NisfError, match="not a complete file of arrays"):
        mapped_arrays(path)
    path.write_bytes((1 << 60).to_bytes(8, "little") + header)
    with pytest.raises(NisfError, match="a header of"):
        mapped_arrays(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(NisfError, match="this file is missing"):
        mapped_arrays(tmp_path / "none")
