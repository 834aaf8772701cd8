"""Cines larger than memory: the same answers to the last bit, and no more than a part of them in memory."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

import toys
from nisf.io.readers import read_image
from nisf.segmentation import Request, segment_case, write_segmentation


def cine(folder):
    """A file of a toy with six frames, scaled and bordered, so that each step of reading has work to do."""
    case = toys.toy_case(99, toys.toy_grid(frames=6))
    image = np.pad(toys.image_of(case)[..., 0], ((1, 1), (1, 1), (0, 0), (0, 0)), constant_values=-50)
    saved = nib.Nifti1Image(image.astype(np.float64)[::-1], case.stacks[0].grid.affine.matrix)
    nib.save(saved, folder / "a.nii.gz")
    return folder / "a.nii.gz"


def written(path, prior, folder):
    """The bytes of all images that segmenting it writes."""
    anatomy = replace(prior.anatomy, turn=True)
    case = read_image(path, anatomy)
    subject = segment_case(case, prior)
    write_segmentation(subject, folder, Request(probabilities=True), case=case)
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.nii.gz"))}


def test_arrays_in_files_give_the_same_bits(toy_image_prior, tmp_path, monkeypatch):
    prior = replace(
        toy_image_prior,
        config=toys.settings(toy_image_prior.config, image={"time_sigma": 0.1}),
    )
    path = cine(tmp_path)
    in_memory = written(path, prior, tmp_path / "memory")
    monkeypatch.setattr("nisf.data.scratch.LARGE", 1)
    monkeypatch.setattr("nisf.data.scratch._folder", tmp_path)
    in_files = written(path, prior, tmp_path / "files")
    assert len(in_memory) == 5
    assert in_files == in_memory


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what is resident")
def test_a_large_cine_in_little_memory(tmp_path):
    """256 x 256 x 30 with 50 frames, 98 million voxels, in 1.2 GB; the parts alone would take 0.7 GB."""
    rng = np.random.default_rng(0)
    grid = toys.toy_grid((64, 64, 30), frames=1, spacing=(1.5, 1.5, 5.0))
    base = toys.image_of(toys.toy_case(0, grid))[..., 0, 0]
    image = np.empty((256, 256, 30, 50), dtype=np.int16, order="F")
    for t in range(50):
        image[..., t] = np.tile(base, (4, 4, 1)) + rng.integers(0, 50, (256, 256, 30))
    nib.save(nib.Nifti1Image(image, np.diag([1.5, 1.5, 5.0, 1.0])), tmp_path / "a.nii.gz")
    del image
    code = (
        "import resource, sys; from nisf.cli import main; status = main(sys.argv[1:]); "
        "print(status, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    words = ["segment", str(tmp_path / "a.nii.gz"), "-o", str(tmp_path / "out"), "--region", "centre"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = subprocess.run(
        [sys.executable, "-c", code, *words, "--threads", "1"],
        capture_output=True,
        text=True,
        env=environment,
        check=True,
    )
    status, megabytes = map(int, found.stdout.split()[-2:])
    assert status == 0
    assert megabytes < 1200
    assert not list((tmp_path / "out").glob(".writing-*"))
