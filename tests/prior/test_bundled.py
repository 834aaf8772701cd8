import pytest

import nisf.prior.bundled
import toys
from nisf.cli import main
from nisf.errors import NisfError
from nisf.io.subject_file import write_subject
from nisf.kinds.load import load_prior, read_subject
from nisf.prior.bundled import DEFAULT, FOLDER, model_names
from nisf.prior.fit import fit

LIMIT_MB = 20


def test_what_comes_with_the_package():
    assert DEFAULT in model_names()
    assert sum(p.stat().st_size for p in FOLDER.rglob("*") if p.is_file()) < LIMIT_MB * 1e6


@pytest.mark.parametrize("name", model_names())
def test_each_model_loads_and_has_a_card(name):
    prior = load_prior(name)
    assert prior.source == name
    card = (FOLDER / name / "README.md").read_text()
    for heading in ("Data", "Licence", "Results", "Known failures", "Intended use"):
        assert f"## {heading}" in card, heading
    assert "not a medical device" in card
    assert prior.card["licence"] != "not stated"


def test_commands(capsys):
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    assert DEFAULT in printed
    assert "licence" in printed
    assert main(["models", DEFAULT]) == 0
    assert "# " in capsys.readouterr().out
    assert main(["models", "brain"]) == 2
    assert "no such model; there are" in capsys.readouterr().err


def test_unknown_prior_lists_the_models(tmp_path):
    with pytest.raises(NisfError, match=f"no such folder.*{DEFAULT}"):
        load_prior(tmp_path / "nowhere")


def test_a_fitted_subject_finds_its_model_anywhere(toy_image_prior, tmp_path, monkeypatch):
    """The file names the model, not the folder that this installation has it in."""
    here = tmp_path / "here" / "models"
    toy_image_prior.save(here / "toy")
    monkeypatch.setattr(nisf.prior.bundled, "FOLDER", here)
    write_subject(tmp_path / "a.nisf", fit(toys.toy_case(7), load_prior("toy")))
    elsewhere = tmp_path / "elsewhere"
    here.rename(elsewhere)
    monkeypatch.setattr(nisf.prior.bundled, "FOLDER", elsewhere)
    assert read_subject(tmp_path / "a.nisf").prior.fingerprint == toy_image_prior.fingerprint
