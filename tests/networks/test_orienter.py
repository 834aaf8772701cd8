"""What tells in which of the eight in-plane ways a stack is stored."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import toys
from nisf.data.arrangement import Arrangement, in_plane
from nisf.errors import BadFileError
from nisf.networks.orienter import (
    MOST_SLICES,
    Orienter,
    every_way,
    read_orienter,
    scores,
    slices_to_orient,
    way_of,
    way_probabilities,
    write_orienter,
)
from nisf.networks.orienter_training import train_orienter

HALF = (45.0, 45.0, 30.0)
GRID = toys.toy_grid((40, 32, 6), frames=2, spacing=(4.0, 4.0, 10.0))


def cornered(seed):
    """A toy beside a bright bar along one side and a shorter one along another: no two ways look alike."""
    case = toys.toy_case(seed, GRID)
    slices = []
    for item in case.slices:
        image = item.image.copy()
        image[:3] = 1.0
        image[:12, -3:] = 0.8
        slices.append(replace(item, image=image))
    return replace(case, slices=tuple(slices))


def test_every_way_is_that_of_the_arrangements():
    image = torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(0))
    for k, way in enumerate(in_plane()):
        for one, moved in zip(image, every_way(image)[:, k], strict=True):
            np.testing.assert_array_equal(moved, way.apply(one.numpy()[:, :, None])[:, :, 0])


def test_cases_are_brought_to_the_way_that_is_known():
    case, ramp = cornered(9), toys.ramp_orienter(4.0)
    first = way_of(case, ramp)
    for way in in_plane():
        assert way.then(way_of(case.arranged(way), ramp)) == first


def test_the_same_answer_however_it_is_stored():
    """Also by a network that learnt nothing: all ways are compared, in another order."""
    torch.manual_seed(3)
    untrained, case = Orienter(4.0).eval(), cornered(3)
    with torch.no_grad():
        untrained.head[-1].weight *= 1e5
    first = way_probabilities(case, untrained)
    assert np.ptp(first) > 0.01
    for way in in_plane():
        found = way_probabilities(case.arranged(way), untrained)
        order = [in_plane().index(way.then(other)) for other in in_plane()]
        np.testing.assert_allclose(found, first[order], rtol=1e-3)


@pytest.mark.slow
def test_it_learns_the_way_of_the_training_cases():
    orienter = train_orienter([cornered(seed) for seed in range(4)], HALF, steps=200)
    for way in in_plane():
        assert way.then(way_of(cornered(9).arranged(way), orienter)) == Arrangement()


def test_nothing_is_turned_where_it_is_not_sure(monkeypatch):
    orienter = toys.ramp_orienter(4.0)
    stored = cornered(9).arranged(in_plane()[5])
    assert not way_of(stored, orienter).changes_nothing
    monkeypatch.setattr("nisf.networks.orienter.SURE", 1.1)
    assert way_of(stored, orienter).changes_nothing
    points = toys.toy_case(0, GRID)
    nothing = replace(points, slices=tuple(replace(s, stack=1) for s in points.slices))
    assert way_probabilities(nothing, orienter) is None
    assert way_of(nothing, orienter).changes_nothing


def test_a_few_slices_in_the_middle_tell():
    case = toys.toy_case(0, toys.toy_grid((8, 8, 20), frames=30))
    found = slices_to_orient(case)
    assert len(found) == MOST_SLICES
    assert {s.frame for s in found} == {0, 15}
    assert min(s.position for s in found) == 4
    assert max(s.position for s in found) == 15
    single = case.keep(lambda s: s.position == 7 and s.frame == 3)
    assert slices_to_orient(single) == list(single.slices)


def test_the_same_training_again():
    case, half = cornered(0), HALF
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    a = train_orienter([case], half, steps=2, seed=1)
    assert torch.equal(torch.rand(3), expected)
    b = train_orienter([case], half, steps=2, seed=1)
    for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y)
    assert float(a.pixel_mm) == pytest.approx(180 / 64)
    assert train_orienter([toys.toy_case(0, labelled=False)], half, steps=1) is None


def test_its_file_belongs_to_a_prior(tmp_path):
    orienter = Orienter(4.0).eval()
    path = tmp_path / "orienter.safetensors"
    assert read_orienter(path, "a") is None
    write_orienter(path, orienter, "a")
    again = read_orienter(path, "a")
    image = torch.rand(1, 64, 64)
    assert torch.equal(scores(again, image), scores(orienter, image))
    with pytest.raises(BadFileError, match=r"belongs to the prior 'a', but this one is b; delete the file"):
        read_orienter(path, "b")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BadFileError, match="not a whole safetensors file"):
        read_orienter(path, "a")
