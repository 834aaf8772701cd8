"""Cohorts that are killed, share a folder or meet a full disk: nothing is lost, mixed or left behind."""

from __future__ import annotations

import importlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import toys
from nisf.cli import main
from nisf.errors import NisfError
from nisf.files import read_tensors
from nisf.kinds.load import read_subject
from nisf.outputs import read_part
from nisf.phantom import Scanner, write_cohort

pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="needs signals"),
    pytest.mark.usefixtures("light"),
]
FILES = {"seg.nii.gz", "image.nii.gz"}
SMALL = Scanner(matrix=(36, 36), spacing_mm=5.0, thickness_mm=14.0, gap_mm=4.0, frames=2)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    write_cohort(folder, 3, seed=4, scanner=SMALL)
    return folder


@pytest.fixture(scope="module")
def long_cohort(tmp_path_factory):
    """One whose cases take seconds each, so that what is stopped is stopped amid them."""
    folder = tmp_path_factory.mktemp("long")
    write_cohort(folder, 3, seed=4)
    return folder


@pytest.fixture(scope="module")
def prior(tmp_path_factory, cohort):
    from nisf.data.anatomy import load_anatomy
    from nisf.io.readers import CaseReader, open_cohort
    from nisf.training.train import train

    anatomy = load_anatomy("cardiac-sax")
    cases = [case for _, case in CaseReader(open_cohort(cohort, anatomy), anatomy)]
    folder = tmp_path_factory.mktemp("prior") / "prior"
    train(cases, [], anatomy, toys.settings(toys.TINY, train={"steps": 2}), folder)
    return folder


def words(cohort: Path, prior: Path, out: Path, *more: str) -> list[str]:
    return [
        "segment",
        str(cohort),
        "--prior",
        str(prior),
        "-o",
        str(out),
        "--steps",
        "1",
        "--no-measures",
        *more,
    ]


def started(*command: str, **options) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    command = (sys.executable, "-m", "nisf", *command)
    return subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True, **options)


def whole(out: Path, prior: Path, names: list[str]) -> None:
    """Every case is there, whole, and nothing else is."""
    expected = {"labels.json", "labels.ctbl", "labels.label.txt", "run.json"}
    for name in names:
        part = read_part(out, name, "segment")
        assert part is not None
        assert part.whole(out), name
        read_subject(out / f"{name}.nisf", prior)
        expected |= {f"{name}.nisf", f"{name}.run.json", f"{name}_seg.nii.gz", f"{name}_image.nii.gz"}
    assert {path.name for path in out.iterdir()} == expected


NAMES = ["phantom0000", "phantom0001", "phantom0002"]


def test_what_a_user_made_in_the_output_folder_stays(cohort, prior, tmp_path, capsys):
    """A hand-made segmentation, one that was corrected afterwards, and a later run with other options."""
    mine = tmp_path / "phantom0001_seg.nii.gz"
    mine.write_bytes(b"by hand")
    assert main(words(cohort, prior, tmp_path)) == 1
    assert "phantom0001_seg.nii.gz: was not written by nisf" in capsys.readouterr().err
    assert mine.read_bytes() == b"by hand"
    corrected = tmp_path / "phantom0000_seg.nii.gz"
    corrected.write_bytes(b"corrected")
    assert main(words(cohort, prior, tmp_path)) == 1
    assert "was changed after nisf wrote it" in capsys.readouterr().err
    assert main(words(cohort, prior, tmp_path, "--overwrite")) == 0
    said = capsys.readouterr().out
    assert "replaced phantom0001_seg.nii.gz, not written by nisf" in said
    whole(tmp_path, prior, NAMES)
    # Other options: made anew, and files of the former request alone are gone.
    assert main(words(cohort, prior, tmp_path, "--probabilities")) == 0
    assert len(list(tmp_path.glob("*_probability-*"))) == 12
    assert main(words(cohort, prior, tmp_path)) == 0
    whole(tmp_path, prior, NAMES)
    # A file that was cut off is not done.
    (tmp_path / "phantom0002_image.nii.gz").unlink()
    assert main(words(cohort, prior, tmp_path)) == 0
    whole(tmp_path, prior, NAMES)


def test_names_leave_no_folder_and_collide_with_none(cohort, prior, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        shutil.copy(cohort / "phantom0000" / "sa.nii.gz", tmp_path / "in" / f"{name}.nii.gz")
    table = tmp_path / "in" / "m.csv"
    table.write_text("case,image,stack\none,a.nii.gz,sa\none,b.nii.gz,../../evil\n")
    out = tmp_path / "out"
    assert main(words(table, prior, out)) == 0
    assert not list(tmp_path.glob("*evil*"))
    assert {path.name for path in out.iterdir() if "evil" in path.name} == {
        "one_.._.._evil_seg.nii.gz",
        "one_.._.._evil_image.nii.gz",
    }
    table.write_text("case,image,stack\np,a.nii.gz,sa\np,b.nii.gz,la\np_la,a.nii.gz,sa\n")
    assert main(words(table, prior, tmp_path / "other")) == 2
    assert "p and p_la would both be written to p_la_seg.nii.gz" in capsys.readouterr().err
    for strange in ("../x", "a\x1b[31m", "=1+1", "-rf"):
        table.write_text(f"case,image\n{strange},a.nii.gz\n")
        assert main(words(table, prior, tmp_path / "other")) == 2
        assert "cannot name a case" in capsys.readouterr().err


def test_records_tell_what_made_it_and_nobody(cohort, prior, tmp_path):
    assert main(words(cohort, prior, tmp_path)) == 0
    text = (tmp_path / "phantom0000.run.json").read_text()
    part = json.loads(text)["parts"]["segment"]
    assert part["command"][:2] == ["segment", "FOLDER"]
    assert part["made"]["prior"] == json.loads((prior / "prior.json").read_text())["fingerprint"]
    assert len(part["made"]["inputs"]) == 1
    assert str(cohort) not in text
    assert str(tmp_path) not in text


def test_measures_that_a_user_made_are_refused_before_anything_is_computed(
    cohort, prior, tmp_path, capsys, monkeypatch
):
    mine = tmp_path / "phantom0001.measures.json"
    mine.write_text("{}")
    fitted = []

    def fit(case, *_, **__):
        fitted.append(case.name)
        raise NisfError("not today")

    monkeypatch.setattr(importlib.import_module("nisf.segmentation.segment"), "fit", fit)
    command = [word for word in words(cohort, prior, tmp_path) if word != "--no-measures"]
    assert main(command) == 1
    assert "phantom0001.measures.json: was not written by nisf" in capsys.readouterr().err
    assert fitted == ["phantom0000", "phantom0002"]
    assert mine.read_text() == "{}"


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_cohort_that_is_stopped_again_and_again(long_cohort, prior, tmp_path, number, workers):
    """Ctrl-C as a terminal sends it, to all processes; the others to the command alone."""
    rng = random.Random(int(number))
    out = tmp_path / "out"
    for _ in range(6):
        command = words(long_cohort, prior, out, "--probabilities", "--workers", workers)
        with started(*command, start_new_session=True) as process:
            time.sleep(rng.uniform(1.0, 12.0))
            if number == signal.SIGINT:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
            output, error = process.communicate(timeout=120)
        assert "Traceback" not in error
        if number != signal.SIGKILL and process.returncode:
            # Before the first line of ours ran and after the last one, Python ends as it always does.
            if output + error and "cases written to" not in output:
                assert process.returncode == 128 + number
            assert not list(out.glob(".*")) if out.exists() else True
    with started(*words(long_cohort, prior, out)) as process:
        _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    whole(out, prior, NAMES)


@pytest.mark.slow
def test_shards_at_once_in_one_folder(long_cohort, prior, tmp_path):
    """Each case once, and one table of all, whoever ends last; a second run has nothing to do."""
    out = tmp_path / "out"
    command = ["segment", str(long_cohort), "--prior", str(prior), "-o", str(out), "--steps", "1"]
    for turn in ("segmented in", "done already"):
        processes = [started(*command, "--shard", f"{number}/2") for number in (1, 2)]
        told = ""
        for process in processes:
            with process:
                printed, error = process.communicate(timeout=300)
            assert process.returncode == 0, error
            told += printed
        assert told.count(turn) == 3
        assert "2 of 2 cases written" in told
        assert "1 of 1 case written" in told
        assert [line.split(",")[0] for line in (out / "measures.csv").read_text().splitlines()[1:]] == NAMES


@pytest.mark.slow
def test_two_processes_in_one_folder(long_cohort, prior, tmp_path):
    out = tmp_path / "out"
    processes = [started(*words(long_cohort, prior, out)) for _ in range(2)]
    for process in processes:
        with process:
            _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
    whole(out, prior, NAMES)


@pytest.mark.slow
def test_a_disk_that_is_full(long_cohort, prior, tmp_path):
    """No file beyond 8 kB can be written: each case fails in a sentence, and nothing half written is left."""
    out = tmp_path / "out"

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    with started(*words(long_cohort, prior, out), preexec_fn=limit) as process:
        _, error = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "Traceback" not in error
    assert error.count("cannot be written") == 3
    assert not list(out.glob(".*"))
    for name in NAMES:  # what was small enough is whole, and nobody takes the case for done
        part = read_part(out, name, "segment")
        assert part is None or not part.whole(out)
    for path in out.glob("*.nii.gz"):
        np.asarray(nib.load(path).dataobj)
    assert main(words(long_cohort, prior, out)) == 0
    whole(out, prior, NAMES)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of its own, and what gives it another size in kB; only who may mount one has it."""
    place = tmp_path / "disk"
    place.mkdir()

    def size(kilobytes: int, *more: str) -> int:
        options = f"size={kilobytes}k" if not more else f"remount,size={kilobytes}k"
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        return subprocess.run(command, check=False, capture_output=True).returncode

    if shutil.which("mount") is None or size(64):
        pytest.skip("no disk can be mounted here")
    yield place, lambda kilobytes: size(kilobytes, "again")
    # Lazily: arrays of this process are still mapped from it.
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.slow
def test_a_small_disk_that_fills_up(long_cohort, prior, small_disk, capsys):
    """Segment, render, pages, training and its cache: a sentence, no draft, and done once there is room."""
    place, size = small_disk
    out = place / "out"
    size(256)
    assert main(words(long_cohort, prior, out)) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert not list(out.glob(".*"))
    size(131_072)
    assert main(words(long_cohort, prior, out)) == 0
    whole(out, prior, NAMES)
    subject = str(out / "phantom0000.nisf")

    def full(command: list[str], files: int) -> None:
        """It fails in a sentence, leaves no draft, and passes when there is room."""
        room = place / "room"
        free = shutil.disk_usage(place).free
        room.write_bytes(bytes(max(0, free - 24_576)))
        assert main(command) in (1, 2)
        error = capsys.readouterr().err
        assert "No space left on device" in error, error
        assert "Traceback" not in error
        assert not [path for path in place.rglob(".*") if path.is_file()]
        room.unlink()
        assert main(command) == 0
        assert sum(path.is_file() for path in place.rglob("*")) >= files

    full(["render", subject, "-o", str(out / "fine.nii.gz"), "--spacing", "2,2,4"], 16)
    full(["report", str(out)], 19)
    quick = ["--preset", "demo", "--set", "train.steps=2", "train.points=64", "train.compile=false"]
    full(["train", str(long_cohort), "-o", str(place / "new"), *quick], 22)


@pytest.mark.slow
def test_a_folder_that_may_only_be_read(long_cohort, prior, small_disk, capsys):
    place, _ = small_disk
    subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
    for command in (
        words(long_cohort, prior, place),
        ["train", str(long_cohort), "-o", str(place / "new"), "--preset", "demo"],
        ["paper", "table1", "--data", str(long_cohort), "-o", str(place)],
        ["phantom", str(place / "phantoms")],
    ):
        assert main(command) == 2, command
        assert "cannot be written (Read-only file system)" in capsys.readouterr().err


@pytest.mark.slow
def test_a_training_that_is_killed_again_and_again(long_cohort, tmp_path):
    """It goes on where it was, no draft stays, and the weights are those of one that nobody killed."""
    rng = random.Random(5)
    quick = ["--preset", "demo", "--set", "train.steps=12", "train.points=64", "train.checkpoint_every=2"]
    # The weights depend on the number of threads, which by default is that of the free cores.
    quick += ["train.compile=false", "region.finder_steps=5", "--threads", "1"]

    def words(out: Path) -> list[str]:
        resume = ["--resume"] if (out / "checkpoint.safetensors").exists() else []
        command = ["train", str(long_cohort), "-o", str(out), "--cache", str(tmp_path / "cache")]
        return [*command, *quick, *resume]

    with started(*words(tmp_path / "whole")) as process:
        _, error = process.communicate(timeout=600)
    assert process.returncode == 0, error
    out = tmp_path / "killed"
    for _ in range(4):
        with started(*words(out)) as process:
            time.sleep(rng.uniform(3.0, 15.0))
            process.kill()
            process.communicate(timeout=60)
    if not (out / "weights.safetensors").exists():
        with started(*words(out)) as process:
            _, error = process.communicate(timeout=600)
        assert process.returncode == 0, error
    ours, theirs = (read_tensors(folder / "weights.safetensors")[0] for folder in (out, tmp_path / "whole"))
    assert all((ours[name] == theirs[name]).all() for name in theirs)
    assert not list(out.glob(".writing-*"))
