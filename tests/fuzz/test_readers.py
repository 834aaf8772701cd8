"""Damaged files of every kind: a result or a `NisfError`, within seconds and without much memory.

A few hundred a run; ``-m slow`` takes the other seeds, over two thousand.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import random
import resource
import shutil
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import nisf
import toys
from fuzz.mutations import damaged, damaged_gzip, damaged_text
from nisf.cli.point_tables import read_points
from nisf.data.anatomy import load_anatomy
from nisf.errors import NisfError
from nisf.files import read_tensors, write_tensors
from nisf.io.readers import CaseReader, open_cohort
from nisf.io.subject_file import write_subject
from nisf.kinds.load import load_prior, read_subject
from nisf.optimisation.checkpoint import stored_settings
from nisf.outputs import read_record, recorded

FAST, SLOW = 40, 260
"""Damaged files of each kind, in every run and in slow ones."""
SECONDS, MEGABYTES = 10.0, 700.0
"""What one file may take: seconds of the processor, which do not depend on how busy the machine is."""
ANATOMY = load_anatomy("cardiac-sax")


def read_cohort(path: Path) -> None:
    """Everything that a cohort's reader does; a case that cannot be read is a sentence that says so."""
    reader = CaseReader(open_cohort(path, ANATOMY, labels=False), ANATOMY, labels=False)
    for _, case in reader:
        assert not isinstance(case, str) or "cannot be read (" not in case or "nisf check" not in case, case


def volume() -> nib.Nifti1Image:
    data = np.random.default_rng(0).integers(0, 900, (12, 10, 4, 3)).astype(np.int16)
    image = nib.Nifti1Image(data, np.diag([1.5, 1.5, 8, 1]))
    image.header.set_xyzt_units("mm", "msec")
    return image


def nifti(folder: Path) -> Path:
    nib.save(volume(), folder / "a.nii")
    return folder / "a.nii"


def nifti_gz(folder: Path) -> Path:
    nib.save(volume(), folder / "a.nii.gz")
    return folder / "a.nii.gz"


def nrrd(folder: Path) -> Path:
    head = "NRRD0004\ntype: short\ndimension: 3\nspace: left-posterior-superior\nsizes: 6 5 4\n" + (
        "space directions: (1,0,0) (0,1,0) (0,0,8)\nkinds: domain domain domain\nendian: little\n"
        "encoding: raw\nspace origin: (0,0,0)\n\n"
    )
    (folder / "a.nrrd").write_bytes(head.encode() + np.arange(120, dtype="<i2").tobytes())
    return folder / "a.nrrd"


def metaimage(folder: Path) -> Path:
    head = (
        "ObjectType = Image\nNDims = 3\nDimSize = 6 5 4\nElementType = MET_SHORT\nElementSpacing = 1 1 8\n"
        + (
            "Offset = 0 0 0\nTransformMatrix = 1 0 0 0 1 0 0 0 1\nElementByteOrderMSB = False\n"
            "ElementDataFile = LOCAL\n"
        )
    )
    (folder / "a.mha").write_bytes(head.encode() + np.arange(120, dtype="<i2").tobytes())
    return folder / "a.mha"


def manifest(folder: Path) -> Path:
    nib.save(volume(), folder / "x.nii")
    rows = [["case", "image", "stack", "time", "phase"], ["one", "x.nii", "sa", "", "ED:0;ES:1"]]
    text = io.StringIO()
    csv.writer(text).writerows([*rows, ["two", "x.nii", "la", "", ""]])
    (folder / "m.csv").write_text(text.getvalue(), encoding="utf-8")
    return folder / "m.csv"


def points(folder: Path) -> Path:
    (folder / "p.csv").write_text("x,y,z,t\n1,2,3,0\n4,5,6,0.5\n", encoding="utf-8")
    return folder / "p.csv"


def anatomy(folder: Path) -> Path:
    source = Path(nisf.__file__).parent / "data" / "anatomies" / "cardiac-sax.json"
    return Path(shutil.copy(source, folder / "a.json"))


def record(folder: Path) -> Path:
    with recorded(folder, "a", "part"):
        write_tensors(folder / "b.safetensors", {})
    return folder / "a.run.json"


def checkpoint(folder: Path) -> Path:
    import torch

    identity = {"config": json.loads(json.dumps(toys_config())), "cases": ["a"]}
    write_tensors(
        folder / "c.safetensors", {"x": torch.ones(3)}, {"identity": json.dumps(identity), "step": "1"}
    )
    return folder / "c.safetensors"


def toys_config() -> dict:
    from nisf.config.overrides import to_dict

    return to_dict(toys.TINY)


def dicom(folder: Path) -> Path:
    pytest.importorskip("pydicom")
    place = Path(__file__).parents[1] / "io" / "dicom" / "helpers.py"
    found = importlib.util.spec_from_file_location("dicom_helpers", place)
    helpers = importlib.util.module_from_spec(found)
    found.loader.exec_module(helpers)
    helpers.instance(0, 0).save_as(folder / "a.dcm")
    return folder / "a.dcm"


def archive(folder: Path) -> Path:
    path = dicom(folder)
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.write(path, "a.dcm")
    path.unlink()
    return folder / "a.zip"


KINDS = {
    "nifti": (nifti, damaged, read_cohort),
    "nifti.gz": (nifti_gz, damaged_gzip, read_cohort),
    "nrrd": (nrrd, damaged_text, read_cohort),
    "metaimage": (metaimage, damaged_text, read_cohort),
    "manifest": (manifest, damaged_text, read_cohort),
    "dicom": (dicom, damaged, read_cohort),
    "zip": (archive, damaged, read_cohort),
    "points": (points, damaged_text, read_points),
    "anatomy": (anatomy, damaged_text, load_anatomy),
    "record": (record, damaged_text, lambda path: read_record(path.parent, "a")),
    "checkpoint": (checkpoint, damaged, stored_settings),
}


def tried(path: Path, whole: bytes, damage, read, seeds: range) -> None:
    """Read a file in many damaged states."""
    for seed in seeds:
        path.write_bytes(damage(whole, random.Random(seed)))
        began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            with suppress(NisfError):
                read(path)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error
        assert time.process_time() - began < SECONDS, f"seed {seed}"
        taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert taken / 1024 < MEGABYTES, f"seed {seed}"


def seeds(slow: bool) -> range:
    return range(FAST, FAST + SLOW) if slow else range(FAST)


SPEEDS = [False, pytest.param(True, marks=pytest.mark.slow)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("slow", SPEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(kind, slow, tmp_path):
    make, damage, read = KINDS[kind]
    path = make(tmp_path)
    whole = path.read_bytes()
    read(path)
    tried(path, whole, damage, read, seeds(slow))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("slow", SPEEDS)
@pytest.mark.parametrize("file", ["prior.json", "weights.safetensors"])
def test_damaged_priors(file, slow, tmp_path, toy_image_prior):
    toy_image_prior.save(tmp_path)
    path = tmp_path / file
    whole = json.loads((tmp_path / "prior.json").read_text())
    del whole["contents"]  # or every change is refused by it
    (tmp_path / "prior.json").write_text(json.dumps(whole))
    damage = damaged_text if file.endswith(".json") else damaged
    tried(path, path.read_bytes(), damage, lambda _: load_prior(tmp_path), seeds(slow))


def with_header_changed(whole: bytes, rng: random.Random) -> bytes:
    """A safetensors file whose JSON header is damaged, and has its true length again."""
    size = int.from_bytes(whole[:8], "little")
    header = damaged_text(whole[8 : 8 + size], rng)
    return len(header).to_bytes(8, "little") + header + whole[8 + size :]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("slow", SPEEDS)
@pytest.mark.parametrize("damage", [damaged, with_header_changed])
def test_damaged_subjects(damage, slow, tmp_path, toy_fitted, toy_prior):
    path = tmp_path / "a.nisf"
    write_subject(path, toy_fitted)
    tried(path, path.read_bytes(), damage, lambda path: read_subject(path, toy_prior), seeds(slow))


def entries(value, rng: random.Random):
    """A JSON value with one entry somewhere in it replaced or gone."""
    strange = (None, -1, 0, 1e300, "", "x", [], {}, [[]], True, 10**30, float("nan"), "²", ["x"], 3.5)
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        if rng.random() < 0.1:
            return {name: item for name, item in value.items() if name != key}
        return value | {key: entries(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        at = rng.randrange(len(value))
        return [*value[:at], entries(value[at], rng), *value[at + 1 :]]
    return rng.choice(strange)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("slow", SPEEDS)
def test_wrong_values_in_subjects(slow, tmp_path, toy_fitted, toy_prior):
    path = tmp_path / "a.nisf"
    write_subject(path, toy_fitted)
    tensors, metadata = read_tensors(path)

    def damage(_, rng):
        data = entries(json.loads(metadata["nisf"]), rng)
        write_tensors(path, tensors, {"nisf": json.dumps(data)})
        return path.read_bytes()

    def read(path):
        subject = read_subject(path, toy_prior)
        repr(subject)
        if subject.stacks and np.prod(subject.stacks[0].grid.shape) < 1e5:
            subject.query(np.zeros((2, 3)), 0.0)

    tried(path, b"", damage, read, seeds(slow))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("slow", SPEEDS)
def test_wrong_values_in_priors(slow, tmp_path, toy_image_prior):
    toy_image_prior.save(tmp_path)
    path = tmp_path / "prior.json"
    whole = json.loads(path.read_text())
    del whole["contents"]  # or every change is refused by it
    tried(
        path,
        b"",
        lambda _, rng: json.dumps(entries(whole, rng)).encode(),
        lambda _: load_prior(tmp_path),
        seeds(slow),
    )
