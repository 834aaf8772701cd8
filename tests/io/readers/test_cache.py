import os
from dataclasses import replace

import numpy as np
import pytest

import toys
from nisf.data.anatomy import load_anatomy
from nisf.errors import NisfError
from nisf.io.readers import cache, cached_case, open_cohort, read_case

from .helpers import acdc_patient, picture, ukb_subject, write

HEART = load_anatomy("cardiac-sax")


def same(first, second) -> None:
    assert (first.name, first.known, first.phases, first.attributes) == (
        second.name,
        second.known,
        second.phases,
        second.attributes,
    )
    for a, b in zip(first.stacks, second.stacks, strict=True):
        assert (a.name, a.oriented, a.source, a.cycle_ms) == (b.name, b.oriented, b.source, b.cycle_ms)
        assert np.array_equal(a.intensity_range, b.intensity_range)
        assert np.array_equal(a.grid.affine.matrix, b.grid.affine.matrix)
    for a, b in zip(first.slices, second.slices, strict=True):
        assert np.array_equal(a.image, b.image)
        assert a.image.dtype == b.image.dtype
        assert (a.label is None) == (b.label is None)
        assert a.label is None or np.array_equal(a.label, b.label)


@pytest.fixture
def files(tmp_path):
    ukb_subject(tmp_path / "data")
    return open_cohort(tmp_path / "data", HEART).cases[0]


@pytest.fixture
def count_reads(monkeypatch):
    reads = []
    real = cache.read_volumes
    monkeypatch.setattr(cache, "read_volumes", lambda *given: reads.append(1) or real(*given))
    return reads


def test_second_time_nothing_is_read(files, tmp_path, count_reads):
    folder = tmp_path / "cache"
    expected = read_case(files, HEART)
    for _ in range(3):
        case = cached_case(files, HEART, folder)
        same(case, expected)
        case.slices[0].image[0, 0, 0] = 77  # copy on write: the next reader does not see it
    assert len(count_reads) == 1
    (entry,) = folder.iterdir()
    assert {path.name for path in entry.iterdir()} == {"case.json", "image0.npy", "image1.npy", "label0.npy"}


def test_notes_are_kept(tmp_path):
    acdc_patient(tmp_path / "data")
    (files,) = open_cohort(tmp_path / "data", HEART).cases
    for _ in range(2):
        notes: dict[str, str] = {}
        cached_case(files, HEART, tmp_path / "cache", notes)
        assert set(notes) == {"zooms"}


def test_changed_files_and_settings_are_read_again(files, tmp_path, count_reads):
    folder = tmp_path / "cache"
    cached_case(files, HEART, folder)
    path = files.stacks[0].images[0][0]
    write(path, picture(6, 5, 3, 4) + 5)
    os.utime(path, ns=(1, 1))
    case = cached_case(files, HEART, folder)
    first = case.keep(lambda item: item.stack == 0)
    shown = case.stacks[0].arrangement.undo(toys.image_of(first))
    assert shown[0, 0, 0, 0, 0] == 5
    cached_case(replace(files, background_known=False), HEART, folder)
    assert len(count_reads) == 3
    # Attributes and phases are not in the arrays: nothing is read for them.
    other = cached_case(replace(files, attributes={"a": "b"}), HEART, folder)
    assert other.attributes == {"a": "b"}
    assert len(count_reads) == 3


@pytest.mark.parametrize("harm", ["cut", "empty", "no json", "half json", "other shape", "no array"])
def test_damaged_entries_are_made_again(files, tmp_path, count_reads, harm):
    folder = tmp_path / "cache"
    expected = read_case(files, HEART)
    cached_case(files, HEART, folder)
    (entry,) = folder.iterdir()
    array, text = entry / "image0.npy", entry / "case.json"
    if harm == "cut":
        array.write_bytes(array.read_bytes()[:-10])
    elif harm == "empty":
        array.write_bytes(b"")
    elif harm == "no json":
        text.unlink()
    elif harm == "half json":
        text.write_text(text.read_text()[:50])
    elif harm == "other shape":
        np.save(array, picture(2, 2, 2, 2, 1))
    else:
        array.unlink()
    same(cached_case(files, HEART, folder), expected)
    cached_case(files, HEART, folder)
    assert len(count_reads) == 2
    assert len(list(folder.iterdir())) == 1


def test_no_place_and_no_file(files, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NisfError, match="the cache cannot be written"):
        cached_case(files, HEART, tmp_path / "file")
    files.stacks[0].images[0][0].unlink()
    with pytest.raises(NisfError, match=r"sa\.nii\.gz: cannot be read"):
        cached_case(files, HEART, tmp_path / "cache")
