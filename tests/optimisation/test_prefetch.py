"""What steps need, made ahead in other processes, is what it would be without them."""

import os
import pickle
from multiprocessing import active_children

import pytest
import torch

import toys
from nisf.cli import main
from nisf.data.region import whole_region
from nisf.kinds.image.augment import phase_stacks
from nisf.kinds.image.samples import Sampler
from nisf.kinds.image.views import for_anatomy
from nisf.optimisation.prefetch import MOST, Prefetched, workers_for


def whose(step, setting):
    return step, setting, os.getpid()


def failing(step, _):
    if step == 2:
        raise ValueError("no such step")
    return step


@pytest.fixture(scope="module")
def sampler():
    case = toys.toy_case(1)
    pool = [phase_stacks(case, whole_region(case).centre(), toys.IMAGE.image.pixel_mm)]
    return Sampler(pool, toys.IMAGE, for_anatomy(toys.IMAGE.augment, toys.ANATOMY))


def test_steps_come_in_turn_from_another_process():
    ahead = Prefetched(whose, 6, workers=1)
    found = [ahead(step, "a") for step in (0, 1, 2)]
    assert [step for step, _, _ in found] == [0, 1, 2]
    assert os.getpid() not in {process for _, _, process in found}
    # A jump, as after a checkpoint; also past the last step.
    assert [ahead(step, "a")[0] for step in (4, 5, 1, 9)] == [4, 5, 1, 9]


def test_what_was_made_with_another_setting_is_not_used():
    ahead = Prefetched(whose, 6, workers=1)
    found = [ahead(0, "coarse"), ahead(1, "coarse"), ahead(2, "fine"), ahead(3, "fine")]
    assert [one[:2] for one in found] == [(0, "coarse"), (1, "coarse"), (2, "fine"), (3, "fine")]


def test_without_workers_nothing_is_started():
    assert Prefetched(whose, 6, workers=0)(3, "a") == (3, "a", os.getpid())


def test_a_failure_reaches_the_training():
    others = active_children()
    ahead = Prefetched(failing, 6, workers=1)
    assert [ahead(0, "a"), ahead(1, "a")] == [0, 1]
    with pytest.raises(ValueError, match="no such step"):
        ahead(2, "a")
    assert set(active_children()) <= set(others)  # ended at once, not when the garbage is collected
    assert ahead(3, "a") == 3


def test_samples_are_the_same(sampler):
    ahead = Prefetched(sampler, 4, workers=1)
    # Where processes are not forked, it travels as bytes.
    other = pickle.loads(pickle.dumps(sampler))
    for step in range(3):
        for of_all in zip(*(draw(step, toys.IMAGE.image) for draw in (sampler, ahead, other)), strict=True):
            for one, *others in zip(*of_all, strict=True):
                for again in others:
                    for name in ("images", "maps", "points", "intensity", "label"):
                        assert torch.equal(getattr(one, name), getattr(again, name)), name


def test_how_many():
    assert workers_for(torch.device("cpu")) == 0
    assert 1 <= workers_for(torch.device("cuda")) <= MOST


def test_a_training_ends_where_it_does_without(tmp_path):
    brief = toys.settings(toys.IMAGE, train={"steps": 3}, region={"finder_steps": 3})
    alone = toys.train_toy(tmp_path / "alone", brief)
    others = active_children()
    helped = toys.train_toy(tmp_path / "helped", brief, workers=1)
    assert set(active_children()) <= set(others)
    assert helped.fingerprint == alone.fingerprint


def test_less_than_none(tmp_path, capsys):
    assert main(["train", str(tmp_path), "-o", str(tmp_path / "prior"), "--workers", "-1"]) == 2
    assert "--workers -1: give 0 or more" in capsys.readouterr().err
