from dataclasses import replace

import numpy as np
import pytest

from nisf.data.anatomy import load_anatomy
from nisf.measures.curve import VolumeCurve
from nisf.measures.formulas import values_of

HEART = load_anatomy("cardiac-sax")
PHASES = {"ED": 0.0, "ES": 0.4}
FIELD = [
    "lv_edv_ml",
    "lv_esv_ml",
    "lv_sv_ml",
    "lv_ef_percent",
    "lv_mass_g",
    "rv_edv_ml",
    "rv_esv_ml",
    "rv_sv_ml",
    "rv_ef_percent",
    "co_l_per_min",
    "peak_filling_ml_per_s",
    "peak_ejection_ml_per_s",
    "heart_rate_bpm",
]


def pair(cycle_ms=None):
    ml = dict(zip(HEART.labels[1:], ([120.0, 50.0], [100.0, 110.0], [140.0, 70.0]), strict=True))
    field = {name: np.array(values) for name, values in ml.items()}
    return VolumeCurve(np.array([0.0, 0.4]), field, {k: 1.1 * v for k, v in field.items()}, cycle_ms)


def test_columns_of_the_heart():
    names = list(values_of(HEART, pair(), PHASES, body_m2=2.0))
    assert names[: len(FIELD)] == FIELD
    assert "lv_ef_slices_percent" in names
    assert "lv_mass_index_g_per_m2" in names
    assert "co_index_l_per_min_per_m2" in names
    assert "lv_ef_index_percent_per_m2" not in names


def test_values_of_a_pair():
    found = values_of(HEART, pair(), PHASES)
    wanted = {
        "lv_edv_ml": 120,
        "lv_esv_ml": 50,
        "lv_sv_ml": 70,
        "lv_ef_percent": 100 * 70 / 120,
        "lv_mass_g": 105,
        "rv_sv_ml": 70,
        "rv_ef_percent": 50,
        "lv_edv_slices_ml": 132,
        "lv_mass_slices_g": 115.5,
        "rv_ef_slices_percent": 50,
    }
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)


def test_what_needs_time_is_unknown_without_it():
    found = values_of(HEART, pair(), PHASES)
    for name in ("co_l_per_min", "heart_rate_bpm", "peak_filling_ml_per_s", "peak_ejection_ml_per_s"):
        assert found[name] is None
    timed = values_of(HEART, pair(800.0), PHASES)
    assert timed["heart_rate_bpm"] == pytest.approx(75)
    assert timed["co_l_per_min"] == pytest.approx(70 * 75 / 1000)
    assert timed["peak_filling_ml_per_s"] is None  # two frames are no curve


def test_measures_by_body_surface():
    found = values_of(HEART, pair(800.0), PHASES, body_m2=2.0)
    assert found["lv_edv_index_ml_per_m2"] == pytest.approx(60)
    assert found["lv_mass_index_g_per_m2"] == pytest.approx(52.5)
    assert found["co_index_l_per_min_per_m2"] == pytest.approx(70 * 75 / 2000)
    assert not any("index" in name for name in values_of(HEART, pair(), PHASES))


def test_a_phase_that_is_not_known():
    found = values_of(HEART, pair(), {"ED": 0.0}, body_m2=2.0)
    assert found["lv_edv_ml"] == pytest.approx(120)
    for name in ("lv_esv_ml", "lv_sv_ml", "lv_ef_percent", "lv_esv_index_ml_per_m2", "lv_esv_slices_ml"):
        assert found[name] is None


def test_no_fraction_of_an_empty_chamber():
    curve = pair()
    empty = replace(curve, ml={name: 0 * values for name, values in curve.ml.items()})
    assert values_of(HEART, empty, PHASES)["lv_ef_percent"] is None


def test_an_anatomy_that_declares_nothing():
    anatomy = load_anatomy("hippocampus")
    ml = {name: np.array([2.0]) for name in anatomy.labels[1:]}
    names = list(values_of(anatomy, VolumeCurve(np.zeros(1), ml, ml), {}))
    assert names[:3] == ["anterior_ml", "anterior_surface_mm2", "anterior_extent_mm"]
    assert names[-1] == "posterior_slices_ml"
    # Priors that were saved before there were declarations.
    old = list(values_of(replace(HEART, declared=()), pair(), PHASES))
    assert old[:2] == ["lv_blood_pool_ed_ml", "lv_blood_pool_ed_surface_mm2"]
