import csv
import json
import subprocess
import sys
from dataclasses import fields, replace

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy.spatial.transform import Rotation

from nisf.cli.evaluate import Evaluate
from nisf.data.anatomy import load_anatomy, to_json
from nisf.data.arrangement import Arrangement, arrangements
from nisf.data.case import UNKNOWN, Case, Stack, slices_of_volume
from nisf.data.geometry import Affine, Grid, cycle_times
from nisf.data.hiding import hide
from nisf.errors import NisfError
from nisf.evaluation.metrics import Score
from nisf.evaluation.scores import (
    evaluate_cases,
    evaluate_each,
    evaluate_folder,
    label_volume,
    phase_name,
    read_label_names,
    score_case,
    score_file,
    summary_table,
    write_scores_csv,
)
from nisf.io.readers import CaseFiles, CaseReader, Cohort, Problem

LABELS = ("background", "LV blood pool", "LV myocardium", "RV blood pool")
_, LV, MYO, RV = LABELS
NAMES = {0: "background", 5: "LV blood pool", 7: "LV myocardium", 9: "RV blood pool"}
NUMBERS = np.array([0, 5, 7, 9], dtype=np.uint8)
SHIFTED = Affine.from_axes(np.eye(3), (1.5, 1.5, 8.0), (0.0, 0.2, 0.0)).matrix
TURNED = Affine.from_axes(
    Rotation.from_rotvec([0.0, 0.0, 0.1]).as_matrix(), (1.5, 1.5, 8.0), (0.0, 0.0, 0.0)
).matrix
GRID = Grid((16, 16, 5), Affine.scaling((1.5, 1.5, 8.0)), cycle_times(4))


def volume():
    label = np.full((16, 16, 5, 4), UNKNOWN, dtype=np.int16)
    for frame in (0, 2):
        label[..., frame] = 0
        label[2:12, 2:12, 1:5, frame] = 2
        label[4:10, 4 : 10 - frame, 1:5, frame] = 1
        label[13:15, 4:9, 1:4, frame] = 3
    return label


def make_case(name="one", label=None, known=LABELS[1:], phases=None):
    label = volume() if label is None else label
    image = np.zeros((*label.shape, 1), dtype=np.float32)
    phases = {"ED": 0.0} if phases is None else phases
    return Case(
        name, (Stack("sa", GRID),), slices_of_volume(image, label, GRID), LABELS, frozenset(known), phases
    )


def rendering():
    return np.maximum(volume(), 0)


def save(path, numbers, matrix=None):
    matrix = GRID.affine.matrix if matrix is None else matrix
    nibabel.nifti1.Nifti1Image(numbers, matrix).to_filename(path)
    return path


def test_label_volume_is_what_the_slices_were_cut_from():
    np.testing.assert_array_equal(label_volume(make_case()), volume())
    fewer = label_volume(make_case().keep(lambda s: s.position != 1))
    assert (fewer[:, :, 1] == UNKNOWN).all()
    np.testing.assert_array_equal(np.delete(fewer, 1, axis=2), np.delete(volume(), 1, axis=2))


def test_phases_are_found_by_time_around_the_cycle():
    case = make_case(phases={"ED": 0.0, "ES": 11 / 30})
    assert [phase_name(case, time) for time in (0.0, 0.9999, 0.36667, 0.4)] == ["ED", "ED", "ES", "t=0.40"]


def test_a_perfect_rendering_scores_perfectly_in_labelled_frames():
    scores = score_case(rendering(), make_case())
    assert [(s.phase, s.frame, s.label) for s in scores] == [
        (phase, frame, label) for phase, frame in (("ED", 0), ("t=0.50", 2)) for label in LABELS[1:]
    ]
    assert all(s.dice == 1 and s.hd95_mm == s.assd_mm == s.difference_ml == 0 for s in scores)
    assert scores[0].reference_ml == pytest.approx(6 * 6 * 4 * 1.5 * 1.5 * 8 / 1000)


def test_only_known_structures_are_scored():
    scores = score_case(rendering(), make_case(known=["LV blood pool"]))
    assert {s.label for s in scores} == {"LV blood pool"}


def test_only_hidden_slices_are_scored():
    _, hidden = hide(make_case(), "every-2nd-slice")
    wrong_elsewhere = rendering()
    wrong_elsewhere[:, :, ::2] = 3
    assert all(s.dice == 1 and s.hd95_mm == 0 for s in score_case(wrong_elsewhere, hidden))
    assert score_case(wrong_elsewhere, hidden) == score_case(wrong_elsewhere, make_case(), positions=[1, 3])
    assert min(s.dice for s in score_case(wrong_elsewhere, make_case())) < 0.6


def test_a_rendering_on_another_grid_is_refused():
    with pytest.raises(ValueError, match="one: a rendering of shape"):
        score_case(rendering()[:-1], make_case())


def test_files_are_mapped_by_name(tmp_path):
    path = save(tmp_path / "one_seg.nii.gz", NUMBERS[rendering()])
    assert score_file(path, NAMES, make_case()) == score_case(rendering(), make_case())


@pytest.mark.parametrize(
    ("numbers", "matrix", "message"),
    [
        (NUMBERS[rendering()][..., :3], None, "shape .*16, 16, 5, 3.* reference .*16, 16, 5, 4"),
        (rendering().astype(np.uint8), None, "has label 1"),
        (NUMBERS[rendering()], np.diag([-1.5, 1.5, 8, 1]), "is LAS, .* its reference RAS, .* no flip"),
        (NUMBERS[rendering()], SHIFTED, r"around \(11\.2, 11\.5, 16\) mm, .* around \(11\.2, 11\.2, 16\)"),
        (NUMBERS[rendering()], TURNED, "is RAS, .* its reference RAS, .* no flip"),
        (NUMBERS[rendering()].astype(np.float32) + 0.01, None, r"voxels are not whole numbers"),
        (np.full((16, 16, 5, 4), np.nan, np.float32), None, "5120 label voxels .*e\\.g\\. nan"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path, numbers, matrix, message):
    path = save(tmp_path / "one_seg.nii.gz", numbers, matrix)
    with pytest.raises(NisfError, match=f"one: .*{message}"):
        score_file(path, NAMES, make_case())


def test_missing_and_broken_files_are_refused(tmp_path):
    path = tmp_path / "one_seg.nii.gz"
    with pytest.raises(NisfError, match="one: no prediction"):
        score_file(path, NAMES, make_case())
    path.write_bytes(b"not a volume")
    with pytest.raises(NisfError, match=r"one: .*one_seg\.nii\.gz: .*"):
        score_file(path, NAMES, make_case())


def test_a_stack_without_orientation_is_compared_by_index(tmp_path):
    path = save(tmp_path / "one_seg.nii.gz", NUMBERS[rendering()], np.diag([-1.5, 1.5, 8, 1]))
    case = make_case()
    case = replace(case, stacks=(replace(case.stacks[0], oriented=False),))
    notes = {}
    scores = score_file(path, NAMES, case, notes)
    assert len(scores) == 6
    assert all(score.dice == 1 for score in scores)
    assert list(notes) == ["by_index"]


@pytest.mark.parametrize("arrangement", list(arrangements()))
def test_flips_and_exchanges_of_axes_are_undone_by_the_affine(tmp_path, arrangement):
    """In whatever order the file has its axes, the same score to the last digit."""
    other = arrangement.of_grid(GRID)
    path = save(tmp_path / "one_seg.nii", arrangement.apply(NUMBERS[rendering()]), other.affine.matrix)
    notes = {}
    assert score_file(path, NAMES, make_case(), notes) == score_case(rendering(), make_case())
    assert bool(notes) == (not arrangement.changes_nothing)


@pytest.mark.parametrize("axes", ["RAS", "LPI", "SAR"])
def test_references_in_other_axes_too(tmp_path, axes):
    """Whatever the reader makes of the reference's axes."""
    label = np.zeros((16, 18, 5), np.uint8)
    label[2:9, 3:8, 1:3], label[9:12, 3:9, 1:4], label[2:5, 9:15, 2:4] = 3, 2, 1
    image = nibabel.nifti1.Nifti1Image(label, np.diag([1.5, 1.5, 8, 1]))
    for kind in ("images", "labels"):
        (tmp_path / kind).mkdir()
    turned = image.as_reoriented(ornt_transform(io_orientation(image.affine), axcodes2ornt(tuple(axes))))
    turned.to_filename(tmp_path / "labels" / "a.nii.gz")
    turned.to_filename(tmp_path / "images" / "a.nii.gz")
    image.to_filename(tmp_path / "a_seg.nii.gz")
    anatomy = replace(load_anatomy("cardiac-sax"), numbers={"pairs": {1: RV, 2: MYO, 3: LV}})
    (tmp_path / "anatomy.json").write_text(json.dumps(to_json(anatomy)))
    (tmp_path / "labels.json").write_text(json.dumps({1: RV, 2: MYO, 3: LV}))
    evaluation = evaluate_folder(tmp_path, tmp_path, tmp_path / "anatomy.json")
    assert not evaluation.failures
    assert [score.dice for score in evaluation.scores] == [1.0] * 3
    stored = [note for note in evaluation.notes if f"is stored RAS, its reference {axes}" in note]
    assert len(stored) == (axes != "RAS")


@pytest.mark.parametrize(("units", "factor"), [("meter", 1e-3), ("micron", 1e3)])
def test_units_of_length(tmp_path, units, factor):
    """Files on the grid of a scan in other units, as `segment` writes them."""
    matrix = np.diag([factor, factor, factor, 1.0]) @ GRID.affine.matrix
    image = nibabel.nifti1.Nifti1Image(NUMBERS[rendering()], matrix)
    image.header.set_xyzt_units(units)
    image.to_filename(tmp_path / "one_seg.nii.gz")
    assert score_file(tmp_path / "one_seg.nii.gz", NAMES, make_case()) == score_case(rendering(), make_case())


def test_a_reference_elsewhere_is_told_as_its_file_has_it(tmp_path):
    case = make_case()
    turned = Arrangement((1, 0, 2), (False, True, False))
    stack = replace(case.stacks[0], grid=turned.of_grid(GRID), arrangement=turned)
    path = save(tmp_path / "one_seg.nii.gz", NUMBERS[rendering()], SHIFTED)
    with pytest.raises(NisfError, match=r"is RAS, .* its reference RAS, 1\.5 x 1\.5 x 8 mm"):
        score_file(path, NAMES, replace(case, stacks=(stack,)))


def test_labels_with_a_scale_are_rounded(tmp_path):
    header = nibabel.nifti1.Nifti1Header()
    header.set_data_dtype(np.int16)
    stored = nibabel.nifti1.Nifti1Image(NUMBERS[rendering()].astype(np.float64), GRID.affine.matrix, header)
    stored.header.set_slope_inter(1.00000002, 1e-8)
    path = tmp_path / "one_seg.nii"
    stored.to_filename(path)
    values = np.unique(nibabel.loadsave.load(path).get_fdata())
    assert (values != np.round(values)).any()
    assert score_file(path, NAMES, make_case()) == score_case(rendering(), make_case())


def test_a_corrupt_gzip_is_one_case(tmp_path):
    path = save(tmp_path / "one_seg.nii.gz", NUMBERS[rendering()])
    data = bytearray(path.read_bytes())
    data[40:200] = bytes(160)
    path.write_bytes(data)
    with pytest.raises(NisfError, match=r"one: .*one_seg\.nii\.gz: .*"):
        score_file(path, NAMES, make_case())


def test_label_names(tmp_path):
    file = tmp_path / "labels.json"
    with pytest.raises(NisfError, match="cannot be read"):
        read_label_names(tmp_path, LABELS)
    for text in ("[]", "no", '{"LV blood pool": 1}'):
        file.write_text(text)
        with pytest.raises(NisfError, match="not a list of numbers"):
            read_label_names(tmp_path, LABELS)
    file.write_text('{"1": "lv", "2": "LV myocardium", "3": "RV blood pool"}')
    with pytest.raises(NisfError, match=r"lacks .*LV blood pool"):
        read_label_names(tmp_path, LABELS)
    file.write_text(json.dumps({**NAMES, 11: "LA"}))
    assert read_label_names(tmp_path, LABELS) == {**NAMES, 11: "LA"}


def test_one_case_failing_does_not_stop_the_others():
    def score(case):
        if case.name == "b":
            raise NisfError("b: broken")
        return score_case(rendering(), case)

    unlabelled = make_case("d", np.full((16, 16, 5, 4), UNKNOWN, dtype=np.int16))
    cases = [make_case("a"), make_case("b"), make_case("c"), unlabelled]
    evaluation = evaluate_each([(case.name, case) for case in cases], score)
    assert {s.case for s in evaluation.scores} == {"a", "c"}
    assert evaluation.failures["b"] == "b: broken"
    assert "no reference labels" in evaluation.failures["d"]


def test_csv_has_a_row_per_score_and_leaves_no_draft(tmp_path):
    scores = score_case(rendering(), make_case())
    path = tmp_path / "new" / "scores.csv"
    write_scores_csv(path, scores)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [field.name for field in fields(Score)]
    assert [float(row["reference_ml"]) for row in rows] == [s.reference_ml for s in scores]
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(NisfError, match="cannot be written"):
        write_scores_csv(path / "below.csv", scores)


def cells(table):
    return list(zip(*(column.cells for column in table.columns), strict=True))


def test_summary_counts_missed_structures():
    without = rendering()
    without[..., 0][without[..., 0] == 3] = 0
    table = cells(
        summary_table(score_case(rendering(), make_case("a")) + score_case(without, make_case("b")))
    )
    assert len(table) == 7
    label, phase, count, dice, *_, missed, spurious = next(row for row in table if row[0] == "RV blood pool")
    assert (label, phase, count, missed, spurious) == ("RV blood pool", "ED", "2", "1", "0")
    assert dice == "0.500 ±0.707"
    assert table[-1][0] == "mean"
    assert table[-1][2] == "12"
    assert cells(summary_table([])) == []


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    """Predictions for cases one and two of a cohort of three, whose files are not really there."""
    cases = {name: make_case(name) for name in ("one", "two", "three")}
    problems = (Problem("four", "error", "no image"), Problem("one", "warning", "odd spacing"))
    files = tuple(CaseFiles(name, "pairs", ()) for name in cases)
    listed = Cohort(tmp_path, "pairs", LABELS, files, problems, {"zooms": "sizes disagree"})
    monkeypatch.setattr("nisf.io.readers.open_cohort", lambda *_, **__: listed)
    monkeypatch.setattr("nisf.io.readers.cases.read_case", lambda files, *_: cases[files.name])
    for name in ("one", "two"):
        save(tmp_path / f"{name}_seg.nii.gz", NUMBERS[rendering()])
    (tmp_path / "labels.json").write_text(json.dumps(NAMES))
    return tmp_path


def test_folders_are_compared(cohort):
    evaluation = evaluate_folder(cohort, cohort)
    assert len(evaluation.scores) == 12
    assert list(evaluation.failures) == ["three", "four"]
    assert evaluation.notes == ("odd spacing", "sizes disagree")


def test_a_case_that_cannot_be_read_is_a_failure(cohort, monkeypatch):
    def broken(files, *_):
        if files.name == "one":
            raise NisfError("one_sa.nii.gz: truncated")
        return make_case(files.name)

    monkeypatch.setattr("nisf.io.readers.cases.read_case", broken)
    evaluation = evaluate_folder(cohort, cohort)
    assert {score.case for score in evaluation.scores} == {"two"}
    assert evaluation.failures["one"] == "one_sa.nii.gz: truncated"


def test_problems_of_the_whole_cohort_are_notes(tmp_path):
    problems = (Problem("", "error", "half a table"), Problem("five", "error", "no image"))
    listed = Cohort(tmp_path, "pairs", LABELS, (), problems, {"zooms": "sizes disagree"})
    evaluation = evaluate_cases(CaseReader(listed, load_anatomy("cardiac-sax")), lambda _: [])
    assert evaluation.failures == {"five": "five: no image"}
    assert evaluation.notes == ("half a table", "sizes disagree")


def test_structures_that_the_predictions_do_not_have_are_noted(cohort):
    """As of a network for the LV alone, whose mean Dice contains zeros."""
    (cohort / "labels.json").write_text(json.dumps({5: LV}))
    for name in ("one", "two"):
        save(cohort / f"{name}_seg.nii.gz", np.array([0, 5, 0, 0], dtype=np.uint8)[rendering()])
    evaluation = evaluate_folder(cohort, cohort)
    assert f"does not name {MYO} and {RV}: where the references have" in evaluation.notes[-1]
    assert {score.label for score in evaluation.scores if score.missed} == {MYO, RV}


def test_predictions_of_no_case_are_noted(cohort):
    for name in ("one_la", "oneself", "nobody"):
        save(cohort / f"{name}_seg.nii.gz", NUMBERS[rendering()])
    # The first is of another stack of a case.
    note = f"2 predictions of no case in {cohort}: nobody, oneself"
    assert evaluate_folder(cohort, cohort).notes[-1] == note


def test_command(cohort, capsys):
    output = cohort / "scores.csv"
    assert Evaluate(cohort, predictions=cohort, output=output).run() == 1
    printed = capsys.readouterr()
    assert "RV blood pool" in printed.out
    assert "three: no prediction, expected" in printed.err
    assert "2 cases could not be scored: three, four" in printed.err
    assert len(output.read_text().splitlines()) == 13
    save(cohort / "three_seg.nii.gz", NUMBERS[rendering()])
    assert Evaluate(cohort, predictions=cohort).run() == 1
    assert "1 case could not be scored: four" in capsys.readouterr().err


def test_command_line_is_light():
    code = "import nisf.cli.evaluate, sys; print({'numpy', 'torch', 'nibabel', 'rich'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"
