from dataclasses import replace

import pytest

from nisf.engines import Begin, Result
from nisf.engines import estimate as module
from nisf.engines.estimate import Estimate, estimated, voxels
from nisf.errors import CannotFitError


class Pretended:
    """Workers that take a second, a gigabyte and ten bytes, in two folders, for every case."""

    error = ""

    def __init__(self, _begin, work, _count):
        self.folder = work.folder

    def run(self, cases, _tell):
        (self.folder / "file").write_bytes(b"012345")
        (self.folder / "bids" / "sub-1").mkdir(parents=True)
        (self.folder / "bids" / "sub-1" / "file").write_bytes(b"6789")
        state = "failed" if self.error else "written"
        yield 0, Result(cases[0].name, state, self.error, cpu_s=1.0, peak_bytes=10**9)


def test_voxels_of_all_frames(files):
    assert voxels(files[0]) % (32 * 32 * 3) == 0
    assert voxels(files[0]) > 0
    assert voxels(replace(files[0], stacks=files[0].stacks * 2)) == 2 * voxels(files[0])


def test_one_case_is_scaled(files, work, monkeypatch):
    monkeypatch.setattr(module, "Workers", Pretended)
    sizes = {files[k].name: size for k, size in enumerate([100, 400, 200, 0, 900])}
    monkeypatch.setattr(module, "voxels", lambda case: sizes[case.name])
    found = estimated(files, Begin("prior", ""), work)
    # Median 300 of those that can be read, mean 400; 400 and 200 are equally near.
    assert found.trial.case == files[1].name
    assert (found.cases, found.seconds, found.disk_bytes) == (5, 5.0, 50.0)
    assert found.memory_bytes == pytest.approx(900 / 400 * 1e9)
    assert not work.folder.exists()


@pytest.mark.parametrize(("cases", "read"), [(199, 199), (200, 200), (399, 200), (401, 134)])
def test_headers_of_so_many_cases_are_read_at_most(files, work, monkeypatch, cases, read):
    asked = []
    monkeypatch.setattr(module, "Workers", Pretended)
    monkeypatch.setattr(module, "voxels", lambda case: asked.append(case) or 100)
    found = estimated([files[0]] * cases, Begin("prior", ""), work)
    assert (len(asked), found.seconds) == (read, cases)


def test_what_cannot_be_told(files, work, monkeypatch):
    monkeypatch.setattr(module, "Workers", Pretended)
    monkeypatch.setattr(Pretended, "error", "no heart")
    with pytest.raises(CannotFitError, match="the trial run failed for 3 cases: no heart"):
        estimated(files, Begin("prior", ""), work)
    with pytest.raises(CannotFitError, match="no case has a readable size"):
        estimated([], Begin("prior", ""), work)


def test_in_words():
    trial = Result("anna", "written", seconds=12.34)
    assert Estimate(1000, trial, 36_000.0, 2e9, 1.2e9).told(4) == [
        "1000 cases; the trial run on anna took 12.3 s",
        "time: about 2.5 hours with 4 workers (10.0 hours of one core)",
        "memory: at most 1.2 GB for each worker",
        "disk: 2.0 GB for all results",
    ]
    assert (
        Estimate(1, trial, 30.0, 1.0, 1.0).told(4)[1] == "time: about 30 s with 4 workers (30 s of one core)"
    )
