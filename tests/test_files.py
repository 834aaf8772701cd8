import os
import re
import signal
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

import nisf
from nisf.errors import NisfError
from nisf.files import check_writable, read_json, read_tensors, replacing, write_json, write_tensors
from nisf.io.mapped import write_arrays


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_replacing(tmp_path):
    path = tmp_path / "new" / "folder" / "image.nii.gz"
    with replacing(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.name.endswith("image.nii.gz")
        assert not path.exists()
        temporary.write_text("one")
    assert path.read_text() == "one"
    with replacing(path) as temporary:
        temporary.write_text("two")
        assert path.read_text() == "one"
    assert path.read_text() == "two"
    assert names(path.parent) == ["image.nii.gz"]


def test_a_file_reaches_the_disk_before_its_name(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(os, "fsync", lambda handle: done.append(os.fstat(handle).st_ino))
    with replacing(tmp_path / "image") as temporary:
        temporary.write_text("one")
        assert done == []
        inode = temporary.stat().st_ino
    assert done == [inode]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_replacing_when_the_block_fails(tmp_path, error):
    path = tmp_path / "image"
    path.write_text("old")

    def half():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        half()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["image"]


def test_replacing_when_the_disk_is_full(tmp_path):
    path = tmp_path / "image"
    path.write_text("old")

    def full():
        with replacing(path):
            raise OSError(28, "No space left on device")

    with pytest.raises(NisfError, match=r"image: cannot be written \(No space left on device\)"):
        full()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["image"]


@pytest.mark.parametrize("write", ["torch", "numpy"])
def test_tensors_when_the_disk_is_full(tmp_path, monkeypatch, write):
    """The library of safetensors says so by an error of its own."""

    def full(*_):
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(f"safetensors.{write}.save_file", full)
    path = tmp_path / "a.safetensors"
    ways = {
        "torch": lambda: write_tensors(path, {"a": torch.zeros(2)}),
        "numpy": lambda: write_arrays(path, {"a": np.zeros(2)}, None),
    }
    with pytest.raises(NisfError, match=r"a\.safetensors: cannot be written \(.*No space left"):
        ways[write]()
    assert not names(tmp_path)


def test_replacing_when_the_process_dies(tmp_path):
    path = tmp_path / "image"
    path.write_text("old")
    code = (
        "import os, signal\nfrom nisf.files import replacing\n"
        f"with replacing({str(path)!r}) as temporary:\n"
        "    temporary.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert path.read_text() == "old"


@pytest.mark.parametrize("told", [True, False])
def test_permissions_are_those_of_any_file(tmp_path, monkeypatch, told):
    if not told:  # as where there is no /proc

        def missing(*_, **__):
            raise FileNotFoundError

        monkeypatch.setattr(Path, "read_text", missing)
    before = os.umask(0o027)
    try:
        write_json(tmp_path / "a.json", {})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640
    assert os.umask(before) == before


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    for write in (
        lambda: write_json(tmp_path / "file" / "a.json", {}),
        lambda: write_tensors(tmp_path / "file" / "deeper" / "a", {"x": torch.zeros(1)}),
        lambda: check_writable(tmp_path / "file"),
        lambda: check_writable(tmp_path / "file" / "deeper"),
    ):
        with pytest.raises(NisfError, match=r"cannot be written .*choose another folder"):
            write()


def test_check_writable(tmp_path):
    assert check_writable(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert names(tmp_path / "a" / "b") == []


def test_check_writable_by_several_at_once(tmp_path):
    """As jobs of a cluster do that start together."""
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: check_writable(tmp_path), range(2000))) == {tmp_path}
    assert names(tmp_path) == []


def test_json(tmp_path):
    data = {"a": [1, 2.5, None], "ä": "ü"}
    write_json(tmp_path / "a.json", data)
    assert read_json(tmp_path / "a.json") == data
    with pytest.raises(ValueError, match="Out of range"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert read_json(tmp_path / "a.json") == data
    with pytest.raises(NisfError, match=r"b\.json: this file is missing"):
        read_json(tmp_path / "b.json")
    for content in (b"{", b"", b"\xff\xfe\x00"):
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(NisfError, match=r"a\.json: cannot be read as JSON"):
            read_json(tmp_path / "a.json")


def test_tensors(tmp_path):
    whole = torch.arange(12.0).reshape(3, 4)
    tensors = {"a": whole.T, "b": torch.tensor(3), "c": whole[:, 1], "d": whole.requires_grad_(True)}
    write_tensors(tmp_path / "t", tensors, {"step": "3"})
    found, metadata = read_tensors(tmp_path / "t")
    assert metadata == {"step": "3"}
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert torch.equal(found[name], tensor)
    write_tensors(tmp_path / "t", {"a": torch.zeros(1)})
    assert read_tensors(tmp_path / "t")[1] == {}


@pytest.mark.parametrize("keep", [0, 5, 30, -1])
def test_damaged_tensors(tmp_path, keep):
    path = tmp_path / "weights.safetensors"
    write_tensors(path, {"a": torch.zeros(10)})
    path.write_bytes(path.read_bytes()[:keep])
    one_sentence(path, "not a whole safetensors file")


def test_garbage_and_missing_tensors(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(bytes(range(256)) * 4)
    one_sentence(path, "not a whole safetensors file")
    one_sentence(tmp_path, "this file is missing")
    one_sentence(tmp_path / "nothing", "this file is missing")


def one_sentence(path, what):
    with pytest.raises(NisfError, match=what) as caught:
        read_tensors(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_nothing_is_pickled():
    for path in Path(nisf.__file__).parent.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"torch\.(load|save)\b|\bimport pickle|allow_pickle=True|joblib", text), path
