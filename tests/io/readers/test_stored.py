"""Cases in a cache: outlined once, mapped when asked for, trained on like those in memory."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

import toys
from nisf.data.anatomy import load_anatomy
from nisf.data.case import Case
from nisf.data.outline import Outline, box_of, content_of, content_of_all, outline, outlines_of
from nisf.data.region import region_from_labels
from nisf.io.readers import CaseReader, open_cohort, stored_cases
from nisf.io.readers import cache as cache_module
from nisf.io.readers import stored as stored_module
from nisf.io.readers.stored import MAPPED
from nisf.kinds.pool import MappedPool
from nisf.phantom import Scanner, write_cohort
from nisf.training.train import TrainOptions, train

pytestmark = pytest.mark.usefixtures("light")
HEART = load_anatomy("cardiac-sax")
SMALL = Scanner(matrix=(32, 32), spacing_mm=5.5, thickness_mm=14.0, gap_mm=4.0, frames=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored") / "data"
    write_cohort(folder, 4, seed=2, scanner=SMALL)
    return folder


def reader(data, cache):
    return CaseReader(open_cohort(data, HEART), HEART, cache=cache)


def test_outlines_are_those_of_the_cases(data, tmp_path):
    stored = stored_cases(reader(data, tmp_path))
    read = [case for _, case in CaseReader(open_cohort(data, HEART), HEART) if isinstance(case, Case)]
    assert [case.name for case in stored] == [case.name for case in read]
    half = box_of(outlines_of(read, order=HEART.reorder), 12.0)
    np.testing.assert_array_equal(box_of(stored.outlines, 12.0), half)
    for found, case in zip(stored.outlines, read, strict=True):
        expected = replace(outline(case, order=HEART.reorder), content=content_of(case))
        assert found.to_json() == expected.to_json()
        assert found.slices == len(case.slices)
        assert found.labelled_slices == len(case.labelled())
        region = region_from_labels(case, half, order=HEART.reorder)
        np.testing.assert_array_equal(found.region(half).pose.matrix, region.pose.matrix)
        np.testing.assert_array_equal(found.region(half).half, region.half)
    assert outlines_of(stored, order=True) is stored.outlines
    assert content_of_all(stored) == content_of_all(read)
    assert content_of_all(read[:1]) != content_of_all(read[1:2])
    assert [case.name for case in stored.only([2, 0])] == [read[2].name, read[0].name]
    assert [case.name for case in stored[1:3]] == [case.name for case in read[1:3]]
    assert stored.only([2]).folder(0) == stored.folder(2)
    assert stored[-1].name == read[-1].name


def test_the_second_time_nothing_is_read(data, tmp_path, monkeypatch):
    first = reader(data, tmp_path)
    stored_cases(first)

    def never(*_):
        raise AssertionError

    monkeypatch.setattr(cache_module, "read_volumes", never)
    monkeypatch.setattr(stored_module, "outline", never)
    again = reader(data, tmp_path)
    assert len(stored_cases(again)) == 4
    assert again.lines() == first.lines()
    assert again.failed == {}


def test_a_case_without_labels_has_no_region(toy_cohort):
    found = outline(toys.toy_case(0, labelled=False), order=True)
    assert found.region((1.0, 1.0, 1.0)) is None
    assert Outline.from_json(found.to_json()).to_json() == found.to_json()
    assert outline(toy_cohort[0], order=True).half is not None
    with pytest.raises(ValueError, match="no case has labels"):
        box_of([found], 0)


@pytest.mark.parametrize("text", ["", "[]", '{"format": 3}', '{"format": 2, "outline": {}, "notes": {}}'])
def test_a_damaged_outline_is_made_again(data, tmp_path, text):
    stored = stored_cases(reader(data, tmp_path))
    path = stored.folder(1) / "outline.json"
    path.write_text(text)
    assert stored_cases(reader(data, tmp_path)).outlines[1].to_json() == stored.outlines[1].to_json()


def test_what_cannot_be_read_is_left_out(tmp_path):
    folder = tmp_path / "data"
    write_cohort(folder, 3, seed=2, scanner=SMALL)
    (folder / "phantom0001" / "sa.nii.gz").write_bytes(b"no image")
    both = reader(folder, tmp_path / "cache")
    assert [one.name for one in stored_cases(both).outlines] == ["phantom0000", "phantom0002"]
    assert list(both.failed) == ["phantom0001"]


def test_few_cases_are_mapped_at_a_time(data, tmp_path, monkeypatch):
    monkeypatch.setattr("nisf.io.readers.stored.MAPPED", 2)
    stored = stored_cases(reader(data, tmp_path))
    assert [len(case.slices) > 0 for case in stored] == [True] * 4
    assert list(stored._mapped) == [2, 3]
    assert stored[3] is stored[3]
    assert MAPPED * 4 < 200  # open files
    assert len(pickle.dumps(stored)) < 100_000  # no pixels


SETTINGS = {
    "latent": toys.settings(toys.TINY, train={"steps": 6, "points": 32, "balanced": 0.5}),
    "frames": toys.settings(toys.TINY, train={"steps": 3, "points": 0}),
    "image": toys.settings(
        toys.IMAGE, train={"steps": 4}, image={"phase_exchange": 1}, region={"finder_steps": 3}
    ),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_trained_on_as_if_in_memory(data, tmp_path, kind, monkeypatch):
    """The same bits, also where what is drawn from was made by an earlier training, or damaged since."""
    config = toys.settings(SETTINGS[kind], region={"whole": False, "finder_steps": 3})
    options = TrainOptions(say=lambda _: None)
    read = [case for _, case in CaseReader(open_cohort(data, HEART), HEART) if isinstance(case, Case)]
    expected = train(read, read[:1], HEART, config, tmp_path / "memory", options)
    stored = stored_cases(reader(data, tmp_path / "cache"))
    found = train(stored, stored[:1], HEART, config, tmp_path / "first", options)
    assert found.fingerprint == expected.fingerprint
    assert found.card == expected.card
    assert found.config == expected.config
    kept = list((tmp_path / "cache").glob("*/*.safetensors"))
    assert kept
    assert not list((tmp_path / "first").glob("**/.writing-*"))
    kept[0].write_bytes(kept[0].read_bytes()[:-8])
    monkeypatch.setattr("nisf.kinds.pool.MAPPED", 1)
    found = train(stored, stored[:1], HEART, config, tmp_path / "second", options)
    assert found.fingerprint == expected.fingerprint


def test_a_pool_makes_each_thing_once(data, tmp_path):
    from nisf.kinds.image.measured import measured_stacks

    stored = stored_cases(reader(data, tmp_path))
    regions = [one.region((60.0, 60.0, 60.0)) for one in stored.outlines]
    made = []
    prepared = measured_stacks(2.0)
    real = prepared.make
    object.__setattr__(prepared, "make", lambda *given: made.append(1) or real(*given))
    for _ in range(2):
        pool = MappedPool(stored, regions, prepared)
        assert [len(stacks) for stacks in pool] == [2] * 4
        assert [len(stacks) for stacks in pool[1:3]] == [2] * 2
        assert len(pool.only([3])[0]) == 2
    assert len(made) == 4
