from dataclasses import replace

import numpy as np
import pytest

import toys
from nisf.data.anatomy import Anatomy
from nisf.data.measure_rules import MeasureRule
from nisf.errors import BadFileError
from nisf.measures.case import measure
from nisf.prior.fit import fit
from nisf.quality.judgement import Judgement, with_judgement
from nisf.uncertainty.intervals import (
    UNJUDGED,
    Intervals,
    Scale,
    _ends,
    cross_fitted,
    fit_scale,
    limits_of,
    measured_columns,
    quantile,
    spreads_of,
    times_of,
    values_at,
    with_intervals,
)
from nisf.uncertainty.spread import Spreading


def test_the_quantile_counts_one_case_more():
    assert quantile(np.arange(1.0, 20.0)) == 18  # rank 20 * 0.9
    assert quantile(np.arange(1.0, 21.0)) == 19  # 18.9, rounded up
    assert quantile([3.0, 1.0]) == 3.0


def test_nine_of_ten_intervals_hold_the_truth():
    random = np.random.default_rng(0)
    spread = random.lognormal(size=400)
    error = random.normal(size=400) * spread
    inside, half = cross_fitted(error, spread, repeats=2)
    assert inside == pytest.approx(0.9, abs=0.03)
    # Wide where it is hard, narrow where it is easy.
    assert np.corrcoef(half, spread)[0, 1] > 0.9
    scale = fit_scale(error[:200], spread[:200])
    new = [abs(e) <= scale.half_width(s) for e, s in zip(error[200:], spread[200:], strict=True)]
    assert np.mean(new) == pytest.approx(0.9, abs=0.05)


def test_the_appendix_is_read_again_and_checked():
    for found in (
        Intervals({"blood_ml": Scale(1.5, 2.0)}, 4),
        Intervals({"blood_ml": Scale(1.5, 2.0)}, 4, 0.066),
    ):
        assert Intervals.from_json(found.to_json(), "there") == found
    older = {"measures": {}, "draws": 0}
    assert Intervals.from_json(older, "there").usual_error is None
    for entries, sentence in (
        ({}, "no usable 'measures'"),
        ({"measures": {"a": {"factor": 1}}, "draws": 0}, "no usable 'floor'"),
        ({"measures": {"a": {"factor": -1, "floor": 0}}, "draws": 0}, "negative or not finite"),
        ({"measures": {}, "draws": 10_000}, "10000 draws"),
        (older | {"usual_error": 0.0}, "usual error of 0.0"),
        (older | {"usual_error": "half"}, "no usable"),
    ):
        with pytest.raises(BadFileError, match=sentence):
            Intervals.from_json(entries, "there")


@pytest.fixture(scope="module")
def subject(toy_image_prior):
    found = fit(toys.toy_case(95), toy_image_prior)
    scales = {name: Scale(2.0, 0.5) for name in measured_columns(toys.ANATOMY)}
    entries = {"intervals": Intervals(scales).to_json()}
    return replace(found, prior=replace(found.prior, appendices=entries))


def test_measures_get_their_intervals(subject):
    plain = measure(subject)
    found = with_intervals(plain, subject)
    assert set(found.intervals) == set(measured_columns(toys.ANATOMY)) != set()
    spreads = spreads_of(toys.ANATOMY, plain, Spreading(subject).at(times_of(toys.ANATOMY, plain)))
    for name, (low, high) in found.intervals.items():
        value, half = found.values[name], 2 * np.hypot(spreads[name], 0.5)
        assert low == pytest.approx(max(0, value - half))
        assert high == pytest.approx(value + half)
    (rule,) = [rule for rule in toys.ANATOMY.measures if rule.rule == "volume"][:1]
    low, high = found.intervals[f"{rule.name}_ml"]
    time = plain.curve.nearest(plain.curve.times[0] if rule.phase is None else plain.phases[rule.phase])
    half = found.band_ml[rule.structure][time]
    assert found.values[f"{rule.name}_ml"] + half == pytest.approx(high)
    assert set(found.band_ml) <= set(toys.LABELS[1:])
    bare = replace(subject, prior=replace(subject.prior, appendices={}))
    assert with_intervals(plain, bare) is plain


def test_intervals_end_where_a_measure_must():
    """A regurgitant volume may be negative, a stroke volume may not."""
    labels = ("background", "LV", "RV")
    rules = (
        MeasureRule("lv_edv", "volume", "LV", "ED"),
        MeasureRule("lv_esv", "volume", "LV", "ES"),
        MeasureRule("rv_edv", "volume", "RV", "ED"),
        MeasureRule("lv_sv", "difference", terms=("lv_edv", "lv_esv")),
        MeasureRule("lv_ef", "percentage", terms=("lv_sv", "lv_edv")),
        MeasureRule("leak", "difference", terms=("lv_edv", "rv_edv")),
        MeasureRule("fraction", "percentage", terms=("leak", "lv_edv")),
        MeasureRule("ratio", "percentage", terms=("rv_edv", "lv_edv")),
        MeasureRule("filling", "difference", terms=("lv_esv", "lv_edv")),
    )
    phases = {"by": "LV", "largest": "ED", "smallest": "ES"}
    anatomy = Anatomy("hearts", labels, ("#000000", "#ff0000", "#00ff00"), phases, declared=rules)
    found = {rule.name: limits_of(rule, anatomy) for rule in rules}
    assert found["lv_edv"] == found["rv_edv"] == found["lv_sv"] == found["ratio"] == (0, np.inf)
    assert found["lv_ef"] == (0, 100)
    assert found["leak"] == found["filling"] == found["fraction"] == (-np.inf, np.inf)
    assert _ends((-np.inf, np.inf), 3.0, 10.0) == (-7, 13)
    assert _ends((0.0, 100.0), 5.0, 6.0) == (0, 11)
    assert _ends((0.0, 100.0), 97.0, 6.0) == (91, 100)
    # A value beyond the limits stays in its interval.
    assert _ends((0.0, np.inf), -5.0, 10.0) == (-5, 5)


@pytest.mark.parametrize(("predicted", "wider"), [(0.6, 4.0), (0.8, 2.0), (0.9, 1.0), (0.97, 1.0)])
def test_intervals_widen_where_the_segmentation_is_expected_to_be_poor(subject, predicted, wider):
    scales = {name: Scale(2.0, 0.5) for name in measured_columns(toys.ANATOMY)}
    known = Intervals(scales, usual_error=0.1)
    prior = replace(subject.prior, appendices={"intervals": known.to_json()})
    judged = with_judgement(replace(subject, prior=prior), Judgement("amber", {}, predicted))
    plain = measure(judged)
    usual, found = with_intervals(plain, subject), with_intervals(plain, judged)
    name = measured_columns(toys.ANATOMY)[0]
    upper = [one.intervals[name][1] - plain.values[name] for one in (usual, found)]
    assert upper[1] == pytest.approx(wider * upper[0])
    for structure, half in usual.band_ml.items():
        np.testing.assert_allclose(found.band_ml[structure], wider * half)
    assert found.notes == plain.notes
    unjudged = with_intervals(plain, replace(subject, prior=prior))
    assert unjudged.intervals == usual.intervals
    assert unjudged.notes == (*plain.notes, UNJUDGED)
    assert usual.notes == plain.notes  # a prior whose intervals do not widen
    # Nothing is known of a case that was not judged, nor by a prior without a usual error.
    assert known.of_case(None) == scales
    assert Intervals(scales).of_case(Judgement("red", {}, 0.1)) == scales


def test_values_are_those_of_the_measures(subject):
    plain = measure(subject)
    times = times_of(toys.ANATOMY, plain)
    volumes = np.array([[plain.curve.at(name, t) for name in toys.LABELS[1:]] for t in times])
    found = values_at(toys.ANATOMY, plain, volumes)
    assert found == {name: plain.values[name] for name in found}
