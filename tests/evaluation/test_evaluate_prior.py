"""A cohort whose label numbers the prior's own anatomy does not know."""

import json
from dataclasses import replace

import numpy as np
import pytest

import toys
from nisf.cli import main
from nisf.data.anatomy import to_json
from nisf.errors import BadSettingError
from nisf.evaluation.cohort import evaluate_prior
from nisf.io.writers import write_volume


@pytest.fixture
def pairs(tmp_path):
    """A toy scan, its labels as 10 and 20, and the anatomy that says so."""
    case = toys.toy_case(3)
    for folder, data in (("images", toys.image_of(case)[..., 0]), ("labels", 10 * toys.label_of(case))):
        (tmp_path / folder).mkdir()
        write_volume(tmp_path / folder / "a.nii.gz", data.astype(np.float32), case.stacks[0].grid)
    numbered(tmp_path / "my.json", toys.ANATOMY)
    return tmp_path


def numbered(path, anatomy):
    numbers = {"pairs": {10: anatomy.labels[1], 20: anatomy.labels[2]}}
    path.write_text(json.dumps(to_json(replace(anatomy, numbers=numbers))))
    return path


def test_label_numbers_of_another_anatomy(toy_image_prior, pairs):
    prior = replace(toy_image_prior, anatomy=replace(toys.ANATOMY, phases=None))
    assert "unexpected label values" in evaluate_prior(pairs, prior).failures["a"]
    evaluation = evaluate_prior(pairs, prior, anatomy=pairs / "my.json", say=lambda _: None)
    assert not evaluation.failures
    assert {score.label for score in evaluation.scores} == {"blood", "muscle"}
    assert np.mean([score.dice for score in evaluation.scores]) > 0.6


def test_an_anatomy_of_other_structures_is_refused(toy_image_prior, pairs, capsys):
    liver = replace(toys.ANATOMY, labels=("background", "liver", "muscle"), phases=None)
    other = numbered(pairs / "other.json", liver)
    with pytest.raises(
        BadSettingError, match=r"other.json: its labels are background, liver, muscle, those of"
    ):
        evaluate_prior(pairs, toy_image_prior, anatomy=other)
    words = ["evaluate", pairs, "--prior", toy_image_prior.folder, "--anatomy", other]
    assert main([str(word) for word in words]) == 2
    assert capsys.readouterr().err.endswith("give an anatomy with the prior's labels, or none (--anatomy)\n")


@pytest.mark.parametrize("option", [["--threads", "1"], ["--device", "cuda"], ["--steps", "3"]])
def test_options_of_fits_do_not_apply_to_files(pairs, option, capsys):
    for more in ([], ["--measures"]):
        assert main(["evaluate", str(pairs), "-p", str(pairs), *more, *option]) == 2
        assert option[0] in capsys.readouterr().err
