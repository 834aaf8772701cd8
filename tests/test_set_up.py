"""dev.py sets up an environment, or says in a sentence why it cannot."""

import importlib.util
import subprocess
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def dev(tmp_path, monkeypatch):
    """dev.py of a clone in tmp_path; `done` lists what it makes and installs."""
    specification = importlib.util.spec_from_file_location("dev", ROOT / "dev.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    module.done = []

    def create(_, with_pip):
        assert with_pip
        module.PYTHON.parent.mkdir(parents=True, exist_ok=True)
        module.PYTHON.touch()
        module.done.append("environment")

    def run(command, **_):
        module.done.append("asked for pip" if command[-1] == "--version" else command[-1])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(venv, "create", create)
    monkeypatch.setattr(subprocess, "run", run)
    at(module, tmp_path)
    return module


def at(dev, folder):
    """Have the clone in another folder."""
    dev.ROOT, dev.VENV = folder, folder / ".venv"
    dev.PYTHON = dev.VENV / "bin" / "python"
    dev.LOCK = folder / "requirements-dev.txt"
    for name in ("requirements-dev.txt", "pyproject.toml"):
        (folder / name).write_text("numpy==2.0\n")


def test_once(dev, tmp_path, capsys):
    dev.set_up()
    assert dev.done == ["environment", str(dev.LOCK), str(tmp_path)]
    assert str(dev.VENV) in capsys.readouterr().out
    dev.done.clear()
    dev.set_up()
    assert dev.done == []
    dev.LOCK.write_text("numpy==2.1\n")
    dev.set_up()
    assert dev.done == ["asked for pip", str(dev.LOCK), str(tmp_path)]


def test_a_clone_that_was_moved(dev, tmp_path):
    dev.set_up()
    dev.done.clear()
    tmp_path.joinpath(".venv").rename(tmp_path / "other")
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / "other").rename(moved / ".venv")
    at(dev, moved)
    dev.set_up()
    assert dev.done[-1] == str(moved), "commands start with the path of the old place"


def test_an_environment_without_pip(dev, monkeypatch):
    """The making of the environment was interrupted."""
    dev.PYTHON.parent.mkdir(parents=True)
    dev.PYTHON.touch()
    run = subprocess.run
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command, **given: (
            subprocess.CompletedProcess(command, int("environment" not in dev.done))
            if command[-1] == "--version"
            else run(command, **given)
        ),
    )
    dev.set_up()
    assert dev.done[0] == "environment"


def test_no_ensurepip(dev, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SystemExit, match="install the package python3-venv"):
        dev.set_up()
    assert dev.done == []


def test_packages_that_cannot_be_installed(dev, monkeypatch):
    def fail(command, **_):
        raise subprocess.CalledProcessError(1, command)

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "run", fail)
        with pytest.raises(SystemExit, match=r"is not complete, see pip's messages above; run the same"):
            dev.set_up()
    dev.done.clear()
    dev.set_up()
    assert dev.done[-1] == str(dev.ROOT), "the next run goes on"
