import csv
from dataclasses import replace

import numpy as np
import pytest

from nisf.data.anatomy import load_anatomy
from nisf.evaluation.agreement import (
    Agreement,
    agreement_table,
    compare,
    compare_folder,
    reference_values,
    write_agreement_csv,
)
from nisf.measures.case import CaseMeasures
from nisf.measures.table import write_case
from nisf.phantom import Heart, Scanner, scan, volumes_ml, write_cohort
from nisf.picture import agreement_picture

HEART = load_anatomy("cardiac-sax")
SMALL = Scanner(matrix=(48, 48), spacing_mm=4.0, frames=4)


def case_of(heart=None, **options):
    heart = Heart(end_systole=0.25) if heart is None else heart
    return scan(heart, replace(SMALL, shift_mm=0.0, **options)).case


def test_bias_and_limits():
    ours, reference = np.array([102.0, 98.0, 104.0]), np.array([100.0, 100.0, 100.0])
    found = Agreement("x_ml", "field", ("a", "b", "c"), ours, reference)
    assert found.bias == pytest.approx(4 / 3)
    assert found.absolute == pytest.approx(8 / 3)
    spread = np.std([2, -2, 4], ddof=1)
    assert found.limits == pytest.approx((4 / 3 - 1.96 * spread, 4 / 3 + 1.96 * spread))
    single = Agreement("x_ml", "field", ("a",), ours[:1], reference[:1])
    assert (single.bias, single.deviation, single.limits) == (2.0, None, None)


def test_references_are_measured_by_slices():
    heart = Heart(end_systole=0.25)
    found = reference_values(case_of(heart), HEART)
    full, empty = volumes_ml(heart, 0.0), volumes_ml(heart, 0.25)
    lv, myo = HEART.labels[1:3]
    assert found["lv_edv_ml"] == pytest.approx(full[lv], rel=0.05)
    assert found["lv_esv_ml"] == pytest.approx(empty[lv], rel=0.08)
    assert found["lv_mass_g"] == pytest.approx(1.05 * full[myo], rel=0.05)
    assert "co_l_per_min" not in found
    assert "heart_rate_bpm" not in found


def test_what_nobody_drew_is_unknown():
    case = case_of()
    found = reference_values(replace(case, known=frozenset({HEART.labels[1]})), HEART)
    assert found["lv_edv_ml"] > 0
    assert np.isnan(found["rv_edv_ml"])
    assert np.isnan(found["lv_mass_g"])


def test_a_cine_in_which_some_structures_were_not_drawn_is_compared():
    """Their volumes are unknown; no curve goes through them."""
    case = case_of(frames=10)
    only = replace(case, known=frozenset({HEART.labels[1]}))
    found, whole = reference_values(only, HEART), reference_values(case, HEART)
    assert found["lv_edv_ml"] == whole["lv_edv_ml"] > 0
    assert np.isnan(found["rv_edv_ml"])
    # The right ventricle was drawn in one frame of ten only.
    k = HEART.labels.index(HEART.labels[3])
    slices = [
        replace(s, label=np.where(s.label == k, 0, s.label)) if s.frame != 0 else s for s in case.slices
    ]
    found = reference_values(replace(case, slices=tuple(slices)), HEART)
    assert found["rv_edv_ml"] == whole["rv_edv_ml"] > 0
    assert np.isnan(found["rv_esv_ml"])
    assert found["lv_ef_percent"] == whole["lv_ef_percent"]


def test_a_phase_without_labels_is_not_that_of_another_frame():
    case = case_of()
    only_full = replace(case, slices=tuple(replace(s, label=None) if s.frame else s for s in case.slices))
    found = reference_values(only_full, HEART)
    assert found["lv_edv_ml"] > 0
    assert found["lv_esv_ml"] is None
    assert found["lv_ef_percent"] is None


def test_both_conventions_are_compared_with_the_references():
    ours = {"a": {"lv_edv_ml": 101.0, "lv_edv_slices_ml": 99.0}, "b": {"lv_edv_ml": 120.0}}
    theirs = {"a": {"lv_edv_ml": 100.0}, "b": {"lv_edv_ml": 121.0, "lv_esv_ml": float("nan")}}
    field, slices = compare(HEART, ours, theirs)
    assert (field.convention, field.cases, field.readers) == ("field", ("a", "b"), 14.7)
    assert field.bias == 0
    assert (slices.convention, slices.cases, slices.bias) == ("slices", ("a",), -1.0)


@pytest.fixture
def folders(tmp_path):
    references, measured = tmp_path / "references", tmp_path / "measured"
    write_cohort(references, 2, seed=1, scanner=SMALL)
    values = {"lv_edv_ml": 130.0, "lv_edv_slices_ml": 128.0}
    write_case(measured, CaseMeasures("phantom0000", values))
    return measured, references


def test_a_folder(folders):
    found = compare_folder(*folders)
    assert [(a.name, a.convention, a.cases) for a in found.agreements] == [
        ("lv_edv_ml", "field", ("phantom0000",)),
        ("lv_edv_ml", "slices", ("phantom0000",)),
    ]
    assert list(found.failures) == ["phantom0001"]
    assert "run nisf measure" in found.failures["phantom0001"]


def test_table_file_and_picture(tmp_path, folders):
    from rich.console import Console

    agreements = compare_folder(*folders).agreements
    console = Console(record=True, width=120)
    console.print(agreement_table(agreements))
    text = console.export_text()
    assert "lv_edv_ml" in text
    assert " to " not in text  # a single case has no limits of agreement
    write_agreement_csv(tmp_path / "a.csv", agreements)
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["difference"]) == pytest.approx(
        float(rows[0]["value"]) - float(rows[0]["reference"]), abs=0.01
    )
    agreement_picture(agreements, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000
