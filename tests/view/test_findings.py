import json
import os
from dataclasses import replace

import numpy as np
import pytest

import toys
from nisf.io.subject_file import write_subject
from nisf.measures.case import measure
from nisf.measures.table import write_case
from nisf.quality.judgement import Judgement, with_judgement
from nisf.uncertainty.band import Anchor, half_width
from nisf.uncertainty.intervals import Intervals, Scale, measured_columns, with_intervals
from nisf.view.findings import kept_measures
from nisf.view.viewed import Viewed


@pytest.fixture(scope="module")
def sure(toy_seen):
    """The toy subject, whose prior knows error bars, and which was judged."""
    subject, case = toy_seen
    scales = {name: Scale(2.0, 0.5) for name in measured_columns(toys.ANATOMY)}
    entries = {"intervals": {"prior": subject.prior.fingerprint, **Intervals(scales, 2).to_json()}}
    subject = replace(subject, prior=replace(subject.prior, appendices=entries))
    return with_judgement(subject, Judgement("amber", {"blood": 0.7}, 0.7, ("<b>odd</b>",))), case


@pytest.fixture(scope="module")
def header(sure):
    viewed = Viewed(*sure)
    assert not viewed.findings.header()["complete"]
    for _ in viewed.work_ahead():
        pass
    return viewed.findings.header()


def test_measures_intervals_and_light_are_those_of_the_command(sure, header):
    json.dumps(header, allow_nan=False)
    truth = with_intervals(measure(sure[0]), sure[0])
    assert header["complete"]
    assert header["quality"]["light"] == "amber"
    assert header["quality"]["reasons"] == ["<b>odd</b>"]
    for k, name in enumerate(("blood", "muscle")):
        assert np.allclose([row[k] for row in header["volumes"]], truth.curve.ml[name], atol=2e-3)
    (group,) = header["groups"]
    volumes = [row for row in group["rows"] if row["unit"] == "mL"]
    assert len(volumes) == 2
    assert all(" to " in row["interval"] for row in volumes)


def test_bands_are_the_intervals_of_the_phases(sure, header):
    truth = with_intervals(measure(sure[0]), sure[0])
    for k, name in enumerate(("blood_ml", "muscle_ml")):
        low, high = truth.intervals[name]
        assert header["halves"][0][k] == pytest.approx(high - truth.values[name], abs=2e-3)
        assert low <= truth.values[name]


def test_intervals_of_a_case_that_the_viewer_judges_widen_as_the_command_says(sure, monkeypatch):
    judgement = Judgement("red", {"blood": 0.6, "muscle": 0.6}, 0.6, ())
    monkeypatch.setattr("nisf.quality.judge.judge", lambda *_, **__: judgement)
    scales = {name: Scale(2.0, 0.5) for name in measured_columns(toys.ANATOMY)}
    entry = {"prior": sure[0].prior.fingerprint, **Intervals(scales, 2, 0.1).to_json()}
    prior = replace(sure[0].prior, appendices={"intervals": entry})
    subject = replace(sure[0], prior=prior, summary={})
    viewed = Viewed(subject, sure[1])
    for _ in viewed.work_ahead():
        pass
    judged = with_judgement(subject, judgement)
    truth, plain = (with_intervals(measure(one), one) for one in (judged, subject))
    for k, name in enumerate(("blood", "muscle")):
        found = viewed.findings.measures.intervals[f"{name}_ml"]
        assert found == pytest.approx(truth.intervals[f"{name}_ml"], abs=2e-3)
        assert np.ptp(found) > 1.5 * np.ptp(plain.intervals[f"{name}_ml"])
        band = [halves[k] for halves in viewed.findings.header()["halves"]]
        assert band == pytest.approx(list(truth.band_ml[name]), abs=2e-3)


def test_what_cannot_be_found_is_said(sure):
    subject = replace(sure[0], prior=replace(sure[0].prior, appendices={"intervals": {"measures": 3}}))
    viewed = Viewed(subject, None)
    for _ in viewed.work_ahead():
        pass
    header = viewed.findings.header()
    assert header["complete"]
    assert "no usable" in header["notes"][-1]


def test_between_phases_a_band_is_mixed_by_volume():
    small, large = Anchor(50.0, Scale(1.0, 3.0), 1.0), Anchor(150.0, Scale(1.0, 6.0), 1.0)
    assert half_width([large, small], 50.0, 0.0) == 3.0
    assert half_width([large, small], 100.0, 0.0) == 4.5
    assert half_width([large, small], 200.0, 4.0) == pytest.approx(np.hypot(4, 6))
    assert np.isnan(half_width([], 100.0, 1.0))
    # A mass of 2 g/mL: half as many mL as g.
    assert half_width([Anchor(50.0, Scale(1.0, 3.0), 2.0)], 50.0, 2.0) == pytest.approx(np.hypot(4, 3) / 2)


def test_measures_beside_the_subject_are_taken_unless_they_are_older_or_of_another(sure, tmp_path):
    subject, path = sure[0], tmp_path / f"{sure[0].name}.nisf"
    assert kept_measures(subject, path) is None
    write_subject(path, subject)
    beside = write_case(tmp_path, measure(subject))
    assert kept_measures(subject, path).values == pytest.approx(measure(subject).values, rel=1e-4)
    assert kept_measures(replace(subject, name="other"), path) is None
    os.utime(beside, (1, 1))
    assert kept_measures(subject, path) is None
