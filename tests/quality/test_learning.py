"""What is learnt never rises with strangeness, survives its file, and is told in words."""

import json
from dataclasses import replace

import numpy as np
import pytest

from nisf.errors import BadFileError
from nisf.quality.learning import Example, learn, learn_curve, usual_values
from nisf.quality.model import from_json, logit, to_json, with_features

STRUCTURES = ("blood", "muscle")


def examples(count=120, seed=0):
    """Frames whose Dice falls with `unsure`; `grain` and the signature say nothing."""
    rng = np.random.default_rng(seed)
    out = []
    for n in range(count):
        good = n % 2 == 0
        doubt = rng.uniform(0.0, 0.1) if good else rng.uniform(0.0, 0.5)
        dice = np.clip(0.95 - 1.5 * doubt + 0.02 * rng.standard_normal(2), 0, 1)
        signs = {"unsure": doubt, "grain": rng.normal(), "volume/blood": rng.normal(4, 0.2)}
        out.append(Example(f"p{n}", good, True, signs, rng.standard_normal(3), dice))
    return out


@pytest.fixture(scope="module")
def model():
    return learn(examples(), STRUCTURES)


def test_dice_is_foretold(model):
    new = examples(seed=1)
    said = [model.light([with_features(e.signs, e.signature, model.signature)]).mean for e in new]
    true = [e.dice.mean() for e in new]
    assert np.corrcoef(said, true)[0, 1] > 0.9
    assert np.abs(np.array(said) - true).mean() < 0.05


def test_more_doubt_is_never_better(model):
    usual = {"grain": 0.0, "volume/blood": 4.0}
    dice = [model.light([{**usual, "unsure": doubt}]).mean for doubt in np.linspace(0, 1, 30)]
    assert (np.diff(dice) <= 1e-12).all()
    assert dice[0] > 0.9 > 0.6 > dice[-1]


def test_lights_and_reasons(model):
    usual = {"unsure": 0.02, "grain": 0.0, "volume/blood": 4.0}
    good = model.light([usual])
    assert (good.light, good.reasons) == ("green", ())
    bad = model.light([{**usual, "unsure": 0.5}])
    assert bad.light == "red"
    assert "the segmentation is uncertain" in bad.reasons
    # One frame of two, and a sign that says nothing of Dice: it was never so strange.
    small = model.light([usual, {**usual, "volume/blood": 0.0}])
    assert small.light == "red"
    assert small.reasons[0] == "the blood is too small, or missing"
    assert model.light([usual, {**usual, "volume/blood": 8.0}]).reasons[0] == "the blood is too large"


def test_a_sign_that_is_missing_counts_as_usual(model):
    assert model.light([{"unsure": 0.02}]).light == "green"


def test_through_json(model):
    data = json.loads(json.dumps({"prior": "x", **to_json(model)}))
    again = from_json(data, STRUCTURES, "quality.json")
    for doubt in (0.0, 0.1, 0.4):
        signs = [{"unsure": doubt, "grain": 3.0, "volume/blood": 4.1, "features": 1.0}]
        a, b = model.light(signs), again.light(signs)
        assert a.mean == pytest.approx(b.mean, abs=1e-3)
        assert (a.light, a.reasons) == (b.light, b.reasons)


@pytest.mark.parametrize(
    "damage",
    [
        {"format": 99},
        {"structures": ["blood"]},
        {"usual": {"no such sign": [0, 1, 2, 3]}},
        {"usual": {"unsure": [0, 1, 2]}},
        {"usual": []},
        {"dice": {}},
        {"signature": {"mean": [1.0], "whitening": [[1.0, 2.0]]}},
    ],
)
def test_a_damaged_file_is_one_sentence(model, damage):
    with pytest.raises(BadFileError, match=r"quality\.json.*fit it again"):
        from_json({**to_json(model), **damage}, STRUCTURES, "quality.json")


def test_curves_never_rise():
    rng = np.random.default_rng(2)
    strange = rng.uniform(0, 5, 200)
    curve = learn_curve(strange, logit(1 - strange / 6 + 0.1 * rng.standard_normal(200)), np.ones(200))
    assert (np.diff(curve.odds) <= 1e-12).all()
    assert (np.diff(curve.knots) > 0).all()
    assert curve(np.array([-9.0]))[0] == curve.odds[0]  # no extrapolation
    assert curve(np.array([99.0]))[0] == curve.odds[-1]


def test_what_is_usual_has_room_where_good_cases_hardly_differ():
    values, good = np.array([0.0, 0.0, 0.0, 0.5]), np.array([True, True, True, False])
    usual = usual_values("blank", values, good, np.zeros(4, dtype=bool))
    assert usual.high > usual.middle == 0
    assert usual.strangeness("blank", np.array([0.5]))[0] > 3
    # A copy that is segmented well although slices are missing says that this is not so bad.
    assert usual_values("blank", values, good, ~good).most > usual.most == 1


def test_without_a_good_case():
    with pytest.raises(ValueError, match="no frame"):
        learn([replace(e, good=False) for e in examples(4)], STRUCTURES)
