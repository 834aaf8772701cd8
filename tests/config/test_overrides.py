import json

import pytest

import toys
from checker import unchecked
from nisf.config.overrides import from_dict, to_dict
from nisf.config.presets import PRESETS
from nisf.config.schema import Config, FieldConfig
from nisf.errors import NisfError


@pytest.mark.parametrize("config", [*PRESETS.values(), toys.CONFIG])
def test_round_trip_through_json(config):
    assert from_dict(Config, json.loads(json.dumps(to_dict(config)))) == config


def changed(**entries):
    return {**to_dict(FieldConfig()), **entries}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (changed(depth=3), "unknown entries .'depth'"),
        ({k: v for k, v in changed().items() if k != "width"}, "missing entries .'width'"),
        (changed(width=1.5), "field.width: 1.5 is not a int"),
        (changed(width=True), "field.width: True is not a int"),
        (changed(gabor_omega="10"), "field.gabor_omega: '10' is not a float"),
        (changed(activation="tanh"), "field.activation: 'tanh' is not one of gabor"),
        (changed(cyclic_time=1), "field.cyclic_time: 1 is not a bool"),
        ([1, 2], "missing entries"),
        (None, "missing entries"),
    ],
)
def test_strict(data, message):
    with unchecked(), pytest.raises(NisfError, match=message):
        from_dict(FieldConfig, data, "field")
    with unchecked(), pytest.raises(NisfError, match=message):
        from_dict(Config, {**to_dict(Config()), "field": data}, "prior.json: config")


def test_whole_numbers_are_floats_too():
    found = from_dict(FieldConfig, changed(gabor_omega=7))
    assert found.gabor_omega == 7.0
    assert isinstance(found.gabor_omega, float)
