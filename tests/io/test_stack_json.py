import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import toys
from checker import unchecked
from nisf.data.arrangement import Arrangement
from nisf.data.case import Stack
from nisf.io.stack_json import stack_from_json, stack_to_json

GRID = toys.toy_grid(axes=toys.rotation(3), centre=(5.0, -3.0, 80.1))
STACKS = [
    Stack("sa", GRID, False, Path("a") / "sa.nii.gz", 912.5, np.array([[0.0, 311.7], [1.0, 2.0]])),
    Stack("la_4ch", GRID),
]


@pytest.mark.parametrize("stack", STACKS)
def test_there_and_back(stack):
    again = stack_from_json(json.loads(json.dumps(stack_to_json(stack), allow_nan=False)))
    for name in ("name", "oriented", "cycle_ms"):
        assert getattr(again, name) == getattr(stack, name)
    # Absolute, so that it is found from any working directory.
    assert again.source == (None if stack.source is None else stack.source.absolute())
    np.testing.assert_array_equal(again.intensity_range, stack.intensity_range)
    assert again.grid.shape == stack.grid.shape
    np.testing.assert_array_equal(again.grid.affine.matrix, stack.grid.affine.matrix)
    np.testing.assert_array_equal(again.grid.times, stack.grid.times)


@pytest.mark.parametrize("key", sorted(set(stack_to_json(STACKS[0])) - {"arrangement", "ends"}))
def test_every_entry_is_needed(key):
    data = stack_to_json(STACKS[0])
    del data[key]
    with pytest.raises(KeyError, match=key):
        stack_from_json(data)


def test_older_files_know_no_arrangement_and_no_ends():
    data = stack_to_json(
        replace(STACKS[0], arrangement=Arrangement((2, 0, 1), (True, False, True)), ends=(1, 3))
    )
    again = stack_from_json(data)
    assert (again.arrangement, again.ends) == (Arrangement((2, 0, 1), (True, False, True)), (1, 3))
    del data["arrangement"], data["ends"]
    assert (stack_from_json(data).arrangement, stack_from_json(data).ends) == (Arrangement(), None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("affine", [[1.0]]),
        ("shape", [1, 2]),
        ("times", "now"),
        ("intensity_range", ["low"]),
        ("name", 3),
        ("oriented", "no"),
        ("cycle_ms", "912"),
        ("ends", ""),
        ("ends", "13"),
        ("ends", [3, 1]),
        ("ends", [0.0, 1.0]),
        ("ends", [1]),
    ],
)
def test_what_is_no_stack(key, value):
    with unchecked(), pytest.raises((TypeError, ValueError)):
        stack_from_json(stack_to_json(STACKS[0]) | {key: value})
