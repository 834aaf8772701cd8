import numpy as np
import pytest

from nisf.data.geometry import Affine
from nisf.measures.shape import DIRECTIONS, extent_mm, surface_mm2
from toys import rotation


def nodes(inside, half=32.0, spacing=1.0, turn=None):
    """A mask of a turned cubic lattice, and the lattice's affine."""
    count = int(2 * half / spacing)
    axes = np.eye(3) if turn is None else turn
    first = -axes @ np.full(3, (count - 1) / 2 * spacing)
    affine = Affine.from_axes(axes, [spacing] * 3, first)
    index = np.stack(np.meshgrid(*[np.arange(count)] * 3, indexing="ij"), -1)
    return inside(affine(index)), affine


def test_thirteen_directions():
    assert len(DIRECTIONS) == 13
    assert {tuple(-np.array(d)) for d in DIRECTIONS}.isdisjoint(DIRECTIONS)


@pytest.mark.parametrize("radius", [8.0, 15.0, 25.0])
def test_a_ball(radius):
    mask, affine = nodes(lambda world: np.linalg.norm(world, axis=-1) < radius)
    assert surface_mm2(mask, 1.0) == pytest.approx(4 * np.pi * radius**2, rel=0.02)
    assert extent_mm(mask, affine) == pytest.approx(2 * radius, rel=0.03)


@pytest.mark.parametrize("seed", range(4))
def test_a_box_however_the_lattice_is_turned(seed):
    sides = np.array([30.0, 20.0, 14.0])
    mask, affine = nodes(lambda world: (np.abs(world) < sides / 2).all(-1), turn=rotation(seed))
    area = 2 * (sides[0] * sides[1] + sides[0] * sides[2] + sides[1] * sides[2])
    assert surface_mm2(mask, 1.0) == pytest.approx(area, rel=0.07)
    assert extent_mm(mask, affine) == pytest.approx(np.linalg.norm(sides), rel=0.04)


def test_units_follow_the_spacing():
    mask, _ = nodes(lambda world: np.linalg.norm(world, axis=-1) < 12)
    assert surface_mm2(mask, 2.0) == pytest.approx(4 * surface_mm2(mask, 1.0))


def test_nothing_and_next_to_nothing():
    empty = np.zeros((5, 5, 5), dtype=bool)
    one = empty.copy()
    one[2, 2, 2] = True
    affine = Affine(np.eye(4))
    assert surface_mm2(empty, 1.0) == 0
    assert extent_mm(empty, affine) == 0
    assert extent_mm(one, affine) == 0
