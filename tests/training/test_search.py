"""The finder's training: kept, resumed, shown."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

import nisf.training.search
import toys
from nisf.errors import NisfError
from nisf.files import read_metadata, read_tensors, write_tensors
from nisf.optimisation.checkpoint import has_begun, stored_settings
from nisf.training.search import FinderCheckpoint, search_for

pytestmark = pytest.mark.usefixtures("light")
CONFIG = toys.settings(
    toys.TINY,
    train={"steps": 4},
    region={"whole": False, "margin_mm": 8.0, "finder_steps": 18},
)
STEPS = CONFIG.region.finder_steps
"""Of the finder: 15 in its first round, 3 in its second."""


class StopError(Exception):
    """Ends a training."""


def stop_at(step):
    def progress(_, done, count):
        assert count == STEPS
        if done == step:
            raise StopError

    return progress


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(nisf.training.search, "KEEP_SECONDS", 0.0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finder") / "whole"
    return folder, toys.train_toy(folder, CONFIG)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The folder of a training that was stopped amid its finder's first round."""
    folder = tmp_path_factory.mktemp("finder") / "stopped"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nisf.training.search, "KEEP_SECONDS", 0.0)
        with pytest.raises(StopError):
            toys.train_toy(folder, CONFIG, progress=stop_at(5))
    return folder


@pytest.fixture
def interrupted(stopped, tmp_path):
    """A copy of it."""
    return shutil.copytree(stopped, tmp_path / "interrupted")


@pytest.mark.parametrize("at", [2, 14, 17])
def test_a_finder_that_was_interrupted_goes_on(whole, tmp_path, at):
    folder, expected = whole
    with pytest.raises(StopError):
        toys.train_toy(tmp_path, CONFIG, progress=stop_at(at))
    checkpoint = tmp_path / "checkpoint.safetensors"
    assert not has_begun(checkpoint)
    assert stored_settings(checkpoint).region == CONFIG.region
    seen, said = [], []
    prior = toys.train_toy(
        tmp_path, CONFIG, resume=True, progress=lambda *told: seen.append(told), say=said.append
    )
    # What was interrupted was a step that was done and not yet kept.
    assert seen == [("finder", step, STEPS) for step in range(at, STEPS + 1)]
    assert f"resuming the finder at step {at - 1} of {STEPS}" in said
    assert prior.fingerprint == expected.fingerprint
    assert prior.config == expected.config
    assert prior.card == expected.card
    assert (tmp_path / "log.jsonl").read_text() == (folder / "log.jsonl").read_text()
    found, wanted = (read_tensors(f / "checkpoint.safetensors")[0] for f in (tmp_path, folder))
    assert set(found) == set(wanted)
    assert any(name.startswith("finder.") for name in found)
    for name, tensor in wanted.items():
        assert torch.equal(found[name], tensor), name


def test_a_trained_finder_is_kept_before_the_recipe_is_set_up(whole, tmp_path, monkeypatch):
    def broken(*_):
        raise StopError

    with monkeypatch.context() as patch:
        patch.setattr("nisf.training.train.TrainingSetup", broken)
        with pytest.raises(StopError):
            toys.train_toy(tmp_path, CONFIG)
    with pytest.raises(NisfError, match=r"was made with other train\.seed \(0, now 3\)"):
        toys.train_toy(tmp_path, toys.settings(CONFIG, train={"seed": 3}), resume=True)
    monkeypatch.setattr(nisf.training.search, "train_finder", None)
    assert toys.train_toy(tmp_path, CONFIG, resume=True).fingerprint == whole[1].fingerprint


def test_what_belongs_to_another_training_is_refused(interrupted):
    with pytest.raises(NisfError, match="already contains a run; resume it"):
        toys.train_toy(interrupted, CONFIG)
    other = toys.settings(CONFIG, region={"finder_steps": 19})
    with pytest.raises(NisfError, match=r"was made with other region\.finder_steps \(18, now 19\)"):
        toys.train_toy(interrupted, other, resume=True)
    with pytest.raises(NisfError, match="was made with other cases"):
        toys.train_toy(interrupted, CONFIG, cases=toys.toy_cohort(4), resume=True)


def test_what_is_kept_between_the_rounds_is_the_end_of_the_first(whole, tmp_path):
    """The second begins after its first step at the earliest."""
    for at in (15, 16):
        with pytest.raises(StopError):
            toys.train_toy(tmp_path / str(at), CONFIG, progress=stop_at(at))
        assert toys.train_toy(tmp_path / str(at), CONFIG, resume=True).fingerprint == whole[1].fingerprint


def test_other_images_under_the_same_names_are_refused(interrupted):
    cases = toys.toy_cohort(3)
    brighter = replace(cases[1].slices[0], image=cases[1].slices[0].image + 1)
    cases[1] = replace(cases[1], slices=(brighter, *cases[1].slices[1:]))
    with pytest.raises(NisfError, match=r"was made with other images or labels of the cases; give the same"):
        toys.train_toy(interrupted, CONFIG, cases=cases, resume=True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("before", torch.tensor(3)),
        ("step", torch.tensor(19)),
        ("step", torch.tensor(0)),
        ("rng", torch.zeros(4, dtype=torch.uint8)),
    ],
)
def test_a_damaged_checkpoint_is_refused(interrupted, name, value):
    path = interrupted / "checkpoint.safetensors"
    tensors, metadata = read_tensors(path)
    write_tensors(path, {**tensors, f"unfinished.{name}": value}, metadata)
    with pytest.raises(NisfError, match="not a checkpoint of this training"):
        toys.train_toy(interrupted, CONFIG, resume=True)


def test_it_is_saved_now_and_then(tmp_path, monkeypatch):
    monkeypatch.setattr(nisf.training.search, "KEEP_SECONDS", 3600.0)
    identity = json.loads(json.dumps({"config": {}, "cases": []}))
    keeper = FinderCheckpoint(tmp_path / "a", identity, print)
    search = search_for(toys.toy_cohort(2), CONFIG, keeper)
    assert search.finder is not None
    metadata = read_metadata(tmp_path / "a")
    assert "step" not in metadata
    assert json.loads(metadata["identity"]) == identity
