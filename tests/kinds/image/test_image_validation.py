from dataclasses import replace

import numpy as np
import pytest
import torch

import toys
from nisf.data.case import UNKNOWN
from nisf.data.hiding import hide
from nisf.data.region import Region, reference_pose
from nisf.kinds.image.scenes import Scenes
from nisf.kinds.image.validation import SliceDice, mean_dice, validation_cases
from nisf.networks.canvas import canvases
from nisf.networks.image_field import ImageField

IMAGE = toys.IMAGE.image


@pytest.fixture(scope="module")
def field():
    torch.manual_seed(0)
    return ImageField(toys.IMAGE.field, IMAGE).eval().requires_grad_(False)


def placed(case):
    """A case and a box around all of it."""
    return case, Region(reference_pose(case, (0.0, 0.0, 0.0)), np.full(3, 60.0))


def straightforward(field, case, seen, wanted):
    """Dice of all voxels of ``wanted``, slice by slice, seen from ``seen``."""
    case, region = placed(case)
    scenes = Scenes(field, canvases(case, seen.slices, region, IMAGE))
    rows = []
    for frame in range(2):
        found, label = [], []
        for s in wanted.slices:
            if s.frame == frame:
                i, j = np.indices(s.label.shape).reshape(2, -1)
                place = region.pose(s.affine(np.stack([i, j, 0 * i], axis=1).astype(float)))
                found.append(scenes.ask(place, np.full(len(i), s.time))[1].argmax(1))
                label.append(s.label.reshape(-1))
        found, label = np.concatenate(found), np.concatenate(label)
        rows.append([toys.dice(found, label, k) for k in (1, 2)])
    return np.mean(rows, axis=0)


def test_slices_given_and_slices_hidden(field):
    case = toys.toy_case(80)
    seen, kept_back = hide(case, "every-2nd-slice")
    given, hidden = validation_cases([placed(case)], IMAGE, seed=0)
    for held, parts in ((given, (case, case)), (hidden, (seen, kept_back))):
        dice = mean_dice(field, held, toys.LABELS, both=True)
        assert list(dice) == ["blood", "muscle"]
        np.testing.assert_allclose(list(dice.values()), straightforward(field, case, *parts), atol=1e-6)


def test_only_labelled_frames_have_canvases():
    case = toys.toy_case(80, toys.toy_grid(frames=6))
    partly = replace(case, slices=tuple(s if s.frame == 2 else replace(s, label=None) for s in case.slices))
    (given,), (hidden,) = validation_cases([placed(partly)], IMAGE, seed=0)
    assert given.canvases.times.tolist() == [2 / 6] * 6
    assert hidden.canvases.times.tolist() == [2 / 6] * 3
    assert [len(held.frames) for held in (given, hidden)] == [1, 1]


def test_cases_of_different_frames_and_structures(field):
    one, two = toys.toy_case(80, toys.toy_grid(frames=1)), toys.toy_case(81)
    blood = [replace(s, label=np.where(s.label == 2, UNKNOWN, s.label)) for s in two.slices]
    cases = [placed(one), placed(replace(two, slices=tuple(blood)))]
    given, _ = validation_cases(cases, IMAGE, seed=0)
    dice = mean_dice(field, given, toys.LABELS, both=True)
    alone = mean_dice(field, given[:1], toys.LABELS, both=True)
    assert dice["muscle"] == alone["muscle"]
    assert dice["blood"] != alone["blood"]
    assert list(mean_dice(field, given[1:], toys.LABELS, both=True)) == ["blood"]


def test_nothing_to_score_and_nothing_to_hide(field):
    single = toys.toy_case(80, toys.toy_grid((24, 24, 1)))
    empty = toys.toy_case(81)
    empty = replace(empty, slices=tuple(replace(s, label=0 * s.label) for s in empty.slices))
    given, hidden = validation_cases([placed(single), placed(empty)], IMAGE, seed=0)
    assert (len(given), len(hidden)) == (1, 0)
    assert mean_dice(field, hidden, toys.LABELS, both=True) == {}


def test_as_json_and_as_a_sentence():
    found = SliceDice({"a": 0.91234, "b": 0.5}, {"a": 0.8})
    assert found.to_dict() == {"dice": {"a": {"given": 0.9123, "hidden": 0.8}, "b": {"given": 0.5}}}
    assert str(found) == "Dice 0.706 (a 0.912, b 0.500); on hidden slices 0.800"
    assert str(SliceDice({"a": 0.5}, {})) == "Dice 0.500 (a 0.500)"
