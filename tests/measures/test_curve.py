import numpy as np
import pytest

from nisf.data.anatomy import load_anatomy
from nisf.data.geometry import cycle_times
from nisf.measures.curve import VolumeCurve, choose_phases
from nisf.phantom import volumes_ml
from nisf.phantom.heart import contraction
from true_subjects import hearts

HEART = load_anatomy("cardiac-sax")
LV = HEART.labels[1]


def curve_of(heart, frames, cycle_ms=900.0):
    times = cycle_times(frames)
    return VolumeCurve(times, {LV: true_ml(heart, times)}, cycle_ms=cycle_ms)


def true_ml(heart, times):
    return volumes_ml(heart, 0.0)[LV] * (1 - heart.ejection_fraction * contraction(heart, times))


def wave(frames=20, shift=0.0, cycle_ms=1000.0):
    """100 mL on average, 30 mL up and down; largest at ``shift``."""
    times = cycle_times(frames)
    ml = {LV: 100 + 30 * np.cos(2 * np.pi * (times - shift))}
    return VolumeCurve(times, ml, ml, cycle_ms)


@pytest.mark.parametrize("shift", [0.0, 0.013, 0.97, 0.4])
def test_extrema_lie_between_frames(shift):
    largest, smallest = wave(shift=shift).extrema(LV)
    assert abs((largest - shift + 0.5) % 1 - 0.5) < 2e-3
    assert abs((smallest - shift) % 1 - 0.5) < 2e-3
    assert wave(shift=shift).at(LV, largest) == pytest.approx(130, abs=0.05)


def test_rates_of_a_wave():
    assert wave().steepest(LV, rise=True) == pytest.approx(2 * np.pi * 30, rel=0.01)
    assert wave(cycle_ms=500.0).steepest(LV, rise=False) == pytest.approx(4 * np.pi * 30, rel=0.01)


@pytest.mark.parametrize("index", range(3))
def test_rates_of_phantoms(index):
    heart, _ = hearts()[index]
    fine = true_ml(heart, np.arange(1000) / 1000)
    slope = np.diff(fine, append=fine[0]) * 1000 / 0.9
    found = curve_of(heart, 30)
    assert found.steepest(LV, rise=True) == pytest.approx(slope.max(), rel=0.03)
    assert found.steepest(LV, rise=False) == pytest.approx(-slope.min(), rel=0.03)


def test_nothing_is_made_up_between_few_frames():
    pair = VolumeCurve(np.array([0.0, 0.4]), {LV: np.array([120.0, 50.0])}, {}, 800.0)
    assert not pair.continuous
    assert pair.steepest(LV, rise=True) is None
    assert pair.extrema(LV) == (0.0, 0.4)
    assert pair.at(LV, 0.1) == 120.0
    assert pair.slices_at(LV, 0.1) is None


def test_a_gap_in_the_cycle_is_no_curve():
    times = np.arange(10) / 20
    assert not VolumeCurve(times, {LV: np.ones(10)}).continuous


def test_no_rate_without_the_length_of_the_cycle():
    assert wave(cycle_ms=None).steepest(LV, rise=True) is None


def test_frames_in_which_the_structure_was_lost_are_no_end_systole():
    times = np.array([0.0, 0.3, 0.6])
    curve = VolumeCurve(times, {LV: np.array([100.0, 0.0, 40.0])})
    assert curve.extrema(LV) == (0.0, 0.6)
    assert VolumeCurve(times, {LV: np.array([100.0, 0.0, 0.0])}).extrema(LV) is None


def test_unknown_volumes_are_left_out():
    known = wave(10)
    ml = np.where(np.arange(10) == 3, np.nan, known.ml[LV])
    curve = VolumeCurve(known.times, {LV: ml, "other": known.ml[LV]}, {}, 1000.0)
    assert curve.extrema(LV) == (0.0, 0.5)
    assert curve.at(LV, 0.11) == ml[1]
    assert np.isnan(curve.at(LV, 0.3))
    assert curve.steepest(LV, rise=True) is None
    assert curve.steepest("other", rise=True) == known.steepest(LV, rise=True)


def test_phases_of_a_single_frame_are_unknown_and_it_is_said():
    one = VolumeCurve(np.zeros(1), {LV: np.array([120.0])})
    phases, (note,) = choose_phases(HEART, one, {}, {})
    assert phases == {}
    assert note.startswith(f"ED and ES: unknown, because the {LV} is in fewer than two frames")
    phases, (note,) = choose_phases(HEART, one, {"ED": 0.0}, {})
    assert phases == {"ED": 0.0}
    assert note.startswith("ES: unknown")


def test_phases_are_those_of_the_curve():
    phases, notes = choose_phases(HEART, wave(shift=0.1), {}, {})
    assert phases == pytest.approx({"ED": 0.1, "ES": 0.6}, abs=2e-3)
    assert notes == []


def test_the_file_is_believed_and_a_disagreement_said():
    phases, notes = choose_phases(HEART, wave(), {"ED": 0.0, "ES": 0.3}, {})
    assert phases == {"ED": 0.0, "ES": 0.3}
    assert len(notes) == 1
    assert notes[0].startswith("ES: the file says 0.30 of the cycle")
    assert "smallest at 0.50" in notes[0]


def test_a_frame_more_or_less_is_no_disagreement():
    assert choose_phases(HEART, wave(), {"ED": 0.95, "ES": 0.55}, {})[1] == []


def test_the_user_is_believed_rather_than_the_file():
    phases, notes = choose_phases(HEART, wave(), {"ED": 0.0, "ES": 0.5}, {"ES": 0.7})
    assert phases == {"ED": 0.0, "ES": 0.7}
    assert notes[0].startswith("ES: the request says 0.70")


def test_a_pair_the_wrong_way_round_is_said():
    pair = VolumeCurve(np.array([0.0, 0.4]), {LV: np.array([50.0, 120.0])})
    phases, notes = choose_phases(HEART, pair, {"ED": 0.0, "ES": 0.4}, {})
    assert phases == {"ED": 0.0, "ES": 0.4}
    assert [note[:2] for note in notes] == ["ED", "ES"]


def test_static_anatomy_has_no_phases():
    curve = VolumeCurve(np.zeros(1), {"anterior": np.ones(1), "posterior": np.ones(1)})
    assert choose_phases(load_anatomy("hippocampus"), curve, {}, {}) == ({}, [])


def test_two_phases_at_one_time_are_not_believed():
    phases, notes = choose_phases(HEART, wave(shift=0.1), {"ED": 0.3, "ES": 0.3}, {})
    assert phases == {"ED": pytest.approx(0.1, abs=2e-3), "ES": pytest.approx(0.6, abs=2e-3)}
    assert notes == ["ED and ES: the file says 0.30 of the cycle, where another phase is too; not used"]
    # The user's phase stays, and the file's other one cannot be at its time.
    phases, notes = choose_phases(HEART, wave(), {"ED": 0.5, "ES": 0.0}, {"ED": 0.0})
    assert phases == {"ED": 0.0, "ES": pytest.approx(0.5, abs=2e-3)}
    assert notes == ["ES: the file says 0.00 of the cycle, where another phase is too; not used"]
    # Of a single frame, neither is known.
    one = VolumeCurve(np.zeros(1), {LV: np.array([100.0])})
    phases, notes = choose_phases(HEART, one, {"ED": 0.0, "ES": 0.0}, {})
    assert phases == {}
    assert len(notes) == 2
