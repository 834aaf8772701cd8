import numpy as np
import pytest

from nisf.data.anatomy import load_anatomy
from nisf.data.case import UNKNOWN, Case
from nisf.io.readers import open_cohort, read_case

from .helpers import LV, MYO, counts, manifest, only_case, real_data

HIPPOCAMPUS = load_anatomy("hippocampus")


def millilitres(case: Case, label: str) -> list[float]:
    index, stack = case.labels.index(label), case.stacks[0]
    frames = range(len(stack.grid.times))
    return [counts(case, frame).get(index, 0) * stack.grid.voxel_ml for frame in frames]


@pytest.mark.parametrize("patient", ["patient001", "patient090", "patient100"])
def test_acdc_volumes_are_those_of_its_manifest(patient):
    root = real_data("acdc")
    lines = [line.split(",") for line in (root / "manifest.csv").read_text().splitlines()]
    column = {name: i for i, name in enumerate(lines[0])}
    rows = sorted((line for line in lines if line[1] == patient), key=lambda line: int(line[2]))
    case = only_case(root / patient)
    names = {"rv_ml": "RV blood pool", "myo_ml": "LV myocardium", "lv_ml": "LV blood pool"}
    for key, label in names.items():
        expected = [float(row[column[key]]) for row in rows]
        np.testing.assert_allclose(millilitres(case, label), expected, atol=0.02)
    assert set(case.phases) == {"ED", "ES"}


def test_sunnybrook_knows_little(tmp_path):
    root = real_data("sunnybrook")
    rows = "case,image,label,known\n" + "".join(
        f"{name},{root}/{name}_sa.nii.gz,{root}/{name}_sa_gt.nii.gz,LV blood pool;LV myocardium\n"
        for name in ("SC-HF-I-1",)
    )
    table = {"3": "LV blood pool", "2": "LV myocardium"}
    case = only_case(manifest(tmp_path, rows, table))
    assert case.phases == {"ED": 18 / 20, "ES": 7 / 20}
    assert set(counts(case, 18)) == {UNKNOWN, LV, MYO}
    assert set(counts(case, 7)) == {UNKNOWN, LV}  # the myocardium was not drawn, and hides
    assert set(counts(case, 0)) == {UNKNOWN}
    assert {s.frame for s in case.labelled()} == {7, 18}
    assert case.stacks[0].oriented


def test_hippocampus():
    cohort = open_cohort(real_data("hippocampus"), HIPPOCAMPUS)
    assert (cohort.layout, len(cohort.cases)) == ("pairs", 260)
    case = read_case(cohort.cases[0], HIPPOCAMPUS, cohort.notes)
    assert case.name == "hippocampus_001"
    assert set(counts(case, 0)) == {0, 1, 2}
    assert not cohort.notes
