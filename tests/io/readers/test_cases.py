import errno
from dataclasses import replace

import pytest

from nisf.data.anatomy import load_anatomy
from nisf.data.case import Case
from nisf.io.readers import CaseReader, cache, cases, open_cohort
from nisf.io.readers.cache import CacheError
from nisf.io.readers.listing import Problem

from .helpers import acdc_patient

HEART = load_anatomy("cardiac-sax")
NAMES = ["patient001", "patient002", "patient003"]


@pytest.fixture
def cohort(tmp_path):
    """Three patients; the image of the second is cut off."""
    for name in NAMES:
        acdc_patient(tmp_path / "data", name)
    cut(tmp_path / "data" / "patient002" / "patient002_frame01.nii.gz")
    return open_cohort(tmp_path / "data", HEART)


def cut(path):
    path.write_bytes(path.read_bytes()[:60])


def outcomes(reader):
    """Name to the case's name, or to the sentence."""
    return {name: case.name if isinstance(case, Case) else case for name, case in reader}


@pytest.mark.parametrize("cached", [False, True])
def test_one_that_cannot_be_read_costs_itself(cohort, tmp_path, cached):
    reader = CaseReader(cohort, HEART, cache=tmp_path / "cache" if cached else None)
    assert len(reader) == 3
    found = outcomes(reader)
    assert list(found) == NAMES
    assert (found["patient001"], found["patient003"]) == ("patient001", "patient003")
    assert "patient002_frame01.nii.gz" in found["patient002"]
    assert reader.failed == {"patient002": found["patient002"]}
    assert reader.errors == (found["patient002"],)
    assert (tmp_path / "cache").exists() == cached


@pytest.mark.parametrize("module", [cases, cache])
def test_no_error_of_a_reader_ends_the_loop(cohort, tmp_path, monkeypatch, module):
    """Also one that nobody foresaw, with or without a cache."""
    name = "read_case" if module is cases else "read_volumes"
    real = getattr(module, name)

    def broken(files, *rest):
        if files.name == "patient001":
            raise IndexError("list index\nout of range")
        return real(files, *rest)

    monkeypatch.setattr(module, name, broken)
    found = outcomes(CaseReader(cohort, HEART, cache=tmp_path / "cache" if module is cache else None))
    assert found["patient001"].startswith("patient001: cannot be read (IndexError: list index out of range)")
    assert found["patient003"] == "patient003"


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_whoever_stops_it_stops_it(cohort, monkeypatch, error):
    def stop(*_):
        raise error

    monkeypatch.setattr(cases, "read_case", stop)
    with pytest.raises(error):
        list(CaseReader(cohort, HEART))


def test_some_of_the_cases_and_no_labels(cohort, tmp_path):
    cut(tmp_path / "data" / "patient003" / "patient003_frame01_gt.nii.gz")
    last = cohort.cases[2:]
    assert "patient003_frame01_gt" in outcomes(CaseReader(cohort, HEART, last))["patient003"]
    ((name, case),) = CaseReader(cohort, HEART, last, labels=False)
    assert (name, case.name, case.labelled()) == ("patient003", "patient003", ())
    assert not list(CaseReader(cohort, HEART, ()))


def test_what_is_to_be_shown(cohort):
    problems = (
        Problem("patient004", "error", "frame 40 of 30"),
        Problem("patient001", "warning", "no Info.cfg"),
        Problem("", "error", "half a cohort"),
    )
    reader = CaseReader(replace(cohort, problems=problems), HEART)
    assert reader.errors == ("frame 40 of 30", "half a cohort")
    assert reader.notes == ("no Info.cfg",)
    list(reader)
    sentence, zooms = reader.failed["patient002"], cohort.notes["zooms"]
    assert reader.errors == ("frame 40 of 30", "half a cohort", sentence)
    assert reader.notes == ("no Info.cfg", zooms)
    assert reader.lines() == (
        "left out: frame 40 of 30",
        "left out: half a cohort",
        f"left out: {sentence}",
        "note: no Info.cfg",
        f"note: {zooms}",
    )
    list(reader)
    assert len(reader.lines()) == 5


@pytest.mark.usefixtures("cohort")
def test_cached_cases_remark_what_they_did_when_they_were_read(tmp_path):
    for _ in range(2):
        again = open_cohort(tmp_path / "data", HEART)
        reader = CaseReader(again, HEART, cache=tmp_path / "cache")
        assert not reader.notes
        list(reader)
        (note,) = reader.notes
        assert "affine and voxel size disagree" in note


def test_a_cache_that_cannot_be_written_ends_it(cohort, tmp_path, monkeypatch):
    """Nobody trains on the cases that a full disk had room for."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="the cache cannot be written"):
        list(CaseReader(cohort, HEART, cohort.cases[:1], cache=tmp_path / "file"))

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("nisf.io.readers.cache.np.save", full)
    with pytest.raises(CacheError, match=r"cannot be written .No space left on device.; make room"):
        list(CaseReader(cohort, HEART, cache=tmp_path / "cache"))
    assert list((tmp_path / "cache").iterdir()) == []
