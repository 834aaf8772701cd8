"""A resumed training has the anatomy of its run."""

import json
from dataclasses import replace

import pytest

import toys
from nisf.data.anatomy import load_anatomy, to_json
from nisf.errors import BadFileError, BadSettingError
from nisf.training.run_anatomy import anatomy_to_train
from nisf.training.train import TrainOptions, train

QUIET = {"say": lambda _: None}
CONFIG = toys.settings(toys.TINY, train={"steps": 2, "validate_every": 0})


def saved(path, **changes):
    path.write_text(json.dumps(to_json(replace(toys.ANATOMY, **changes))))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    toys.train_toy(folder, CONFIG, validation=[])
    return folder


def test_it_is_that_of_the_run(run, tmp_path):
    assert anatomy_to_train(None, run) == toys.ANATOMY
    assert anatomy_to_train(None) == anatomy_to_train(None, tmp_path) == load_anatomy("cardiac-sax")
    assert anatomy_to_train("hippocampus").name == "hippocampus"


def test_colours_and_numbers_may_change(run, tmp_path):
    path = saved(
        tmp_path / "my.json", colours=("#000000", "#111111", "#222222"), numbers={"pairs": {7: "blood"}}
    )
    assert anatomy_to_train(path, run).numbers == {"pairs": {7: "blood"}}


@pytest.mark.parametrize(
    "changes", [{"labels": ("background", "liver", "muscle"), "phases": {"by": "liver"}}, {"reorder": False}]
)
def test_another_one_is_refused(run, tmp_path, changes):
    path = saved(tmp_path / "other.json", **changes)
    with pytest.raises(
        BadSettingError, match=r"is not the anatomy of the run in .*: background, blood, muscle"
    ):
        anatomy_to_train(path, run)
    other = replace(toys.ANATOMY, **changes)
    with pytest.raises(BadFileError, match="was made with other anatomy"):
        train(toys.toy_cohort(3), [], other, CONFIG, run, TrainOptions(resume=True, **QUIET))
