"""Each row of the table "DICOM" in docs/reference.md, with the right value."""

from __future__ import annotations

import builtins
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pydicom")
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless, generate_uid
from readers.helpers import real_data

from nisf.cli import main
from nisf.data.anatomy import load_anatomy
from nisf.data.case import Case
from nisf.data.geometry import Grid
from nisf.errors import BadFileError
from nisf.io.dicom.names import Identifiers
from nisf.io.readers import Cohort, check_cohort, open_cohort, read_case
from nisf.io.readers.dicom_cohort import with_identifiers, with_series

from .helpers import (
    COLUMN,
    COLUMNS,
    DATE,
    FRAMES,
    ID,
    NAME,
    NORMAL,
    ORIGIN,
    ROW,
    ROWS,
    RR,
    SLICES,
    SPACING,
    STEP,
    affine,
    enhanced,
    fill,
    instance,
    pixels,
    place,
    save,
    volume,
    write,
)

HEART = load_anatomy("cardiac-sax")
MEASURED = np.ones((SLICES, FRAMES), dtype=bool)


def listed(path: Path, layout: str = "auto") -> Cohort:
    return open_cohort(path, HEART, layout)


def read(path: Path) -> tuple[Case, dict[str, str]]:
    cohort = listed(path)
    assert cohort.layout == "dicom"
    assert not [problem for problem in cohort.problems if problem.severity == "error"]
    (files,) = cohort.cases
    return read_case(files, HEART, cohort.notes), cohort.notes


def array(case: Case) -> np.ndarray:
    """(x, y, z, t) of the first stack, as the series has it; 0 where nothing was measured."""
    stack = case.stacks[0]
    out = np.zeros((*stack.grid.shape, len(stack.grid.times)), dtype=case.slices[0].image.dtype)
    for piece in case.slices:
        out[:, :, piece.position, piece.frame] = piece.image[..., 0]
    return stack.arrangement.undo(out)


def series_grid(case: Case) -> Grid:
    """The grid of the first stack, as the series has it."""
    return case.stacks[0].arrangement.undo_grid(case.stacks[0].grid)


def assert_right(case: Case, measured: np.ndarray = MEASURED) -> None:
    """Voxels, places and times are those of the helpers; what was not measured is constant."""
    image = array(case)
    assert image.shape == (COLUMNS, ROWS, SLICES, FRAMES)
    for z in range(SLICES):
        for t in range(FRAMES):
            if measured[z, t]:
                np.testing.assert_array_equal(image[:, :, z, t], pixels(z, t))
            else:
                assert np.ptp(image[:, :, z, t]) == 0
    (stack,) = case.stacks
    np.testing.assert_allclose(series_grid(case).affine.matrix, affine(), atol=1e-4)
    np.testing.assert_allclose(stack.grid.times, np.arange(FRAMES) / FRAMES)
    assert stack.oriented
    assert stack.source is None


def hidden(text: str) -> bool:
    return not any(word in text for word in ("Muster", "Erika", ID, DATE, "19600229", "14.03.2019"))


# What is read


def test_shuffled_files_without_endings(tmp_path):
    folder = write(tmp_path / "scan")
    (folder / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 200)
    (folder / "readme.txt").write_text("not DICOM " * 50)
    case, notes = read(folder)
    assert_right(case)
    assert case.name == "scan"
    assert case.stacks[0].cycle_ms == RR
    assert not notes
    np.testing.assert_allclose(case.stacks[0].intensity_range, [np.percentile(volume(), [1, 99])])


def test_nested_folders_with_endings_and_single_files(tmp_path):
    def change(data, z, t):
        save(data, tmp_path / "study" / f"slice{z}" / "deep" / f"{t}.dcm")

    write(tmp_path / "none", change)
    case, _ = read(tmp_path / "study")
    assert_right(case)
    case, _ = read(save(instance(1, 0), tmp_path / "one.dcm"))
    assert case.name == "one"
    np.testing.assert_array_equal(array(case)[..., 0, 0], pixels(1, 0))


def test_zip(tmp_path):
    folder = write(tmp_path / "scan")
    with zipfile.ZipFile(tmp_path / "heart 1.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in folder.iterdir():
            archive.write(path, f"../../{path.name}")  # nothing is extracted, so that nothing escapes
        archive.writestr("inner.zip", b"PK\x03\x04" + b"\0" * 200)
    case, notes = read(tmp_path / "heart 1.zip")
    assert_right(case)
    assert case.name == "heart 1"
    assert any("archives in the archive are not opened" in note for note in notes.values())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heart 1.zip", "scan"]


def test_without_preamble_and_implicit(tmp_path):
    def change(data, z, t):
        path = save(data, tmp_path / "with" / f"{z}-{t}")
        raw = path.read_bytes()
        (tmp_path / "scan").mkdir(exist_ok=True)
        # No preamble and no file meta: the data set alone, as old archives have it.
        length = int.from_bytes(raw[140:144], "little")
        (tmp_path / "scan" / path.name).write_bytes(raw[144 + length :])

    write(tmp_path / "none", change)
    assert_right(read(tmp_path / "scan")[0])


def test_enhanced_multi_frame(tmp_path):
    case, notes = read(enhanced(tmp_path / "enhanced"))
    image = array(case)
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image, volume() * 2.0 - 10.0)
    np.testing.assert_allclose(series_grid(case).affine.matrix, affine(), atol=1e-4)
    assert case.stacks[0].cycle_ms == RR
    assert not notes


def test_slope_and_intercept(tmp_path):
    def change(data, z, _):
        data.RescaleSlope, data.RescaleIntercept = (2, 5) if z == 0 else (1, 0)
        return data

    right = volume().astype(np.float32)
    right[:, :, 0] = right[:, :, 0] * 2 + 5
    np.testing.assert_array_equal(array(read(write(tmp_path, change))[0]), right)


# Frames


@pytest.mark.parametrize("by", ["temporal", "acquisition", "number", "number by frame"])
def test_order_of_trust(tmp_path, by):
    """Each key sorts the frames if those before it say nothing; those after it say the reverse."""

    def change(data, z, t):
        data.TriggerTime = 0
        number = SLICES * t + z if by == "number by frame" else FRAMES * z + t
        reverse = FRAMES - t
        data.InstanceNumber = 1 + number if "number" in by else FRAMES * z + reverse
        if by != "number by frame" and "number" not in by:
            data.AcquisitionTime = f"1000{t if by == 'acquisition' else reverse:02d}.5"
        if by == "temporal":
            data.TemporalPositionIndex = 1 + t
        return data

    case, _ = read(write(tmp_path, change))
    assert_right(case)


def test_trigger_time_beats_the_rest(tmp_path):
    def change(data, z, t):
        data.InstanceNumber = 100 * z + FRAMES - t
        data.AcquisitionTime = f"1000{FRAMES - t:02d}"
        return data

    assert_right(read(write(tmp_path, change))[0])


def test_rr_intervals_that_differ_by_slice(tmp_path):
    """Two phases are missing where the heart beat faster: they are found by their share of the cycle."""

    def change(data, z, t):
        rr = RR * (1 + 0.1 * z)
        data.NominalInterval, data.TriggerTime = round(rr), f"{(t + 0.5) * rr / FRAMES:.3f}"
        return None if z == 3 and t in (1, 2) else data

    measured = MEASURED.copy()
    measured[3, 1:3] = False
    case, notes = read(write(tmp_path, change))
    assert_right(case, measured)
    assert case.stacks[0].cycle_ms == pytest.approx(RR * 1.1, abs=RR * 0.06)
    assert any("slice 4 lacks 2 of 5 frames: they are left blank" in note for note in notes.values())


@pytest.mark.parametrize("by", ["trigger", "temporal", "number", "number by frame"])
def test_missing_frames_at_a_slice(tmp_path, by):
    def change(data, z, t):
        if by != "trigger":
            del data.TriggerTime
            del data.NominalInterval
        if by == "temporal":
            data.TemporalPositionIndex = 1 + t
        data.InstanceNumber = 1 + (SLICES * t + z if by == "number by frame" else FRAMES * z + t)
        return None if (z, t) in ((2, 0), (2, 3)) else data

    measured = MEASURED.copy()
    measured[2, [0, 3]] = False
    case, notes = read(write(tmp_path, change))
    assert_right(case, measured)
    assert any("slice 3 lacks 2 of 5 frames" in note for note in notes.values())
    if by != "trigger":
        assert case.stacks[0].cycle_ms is None


def test_frames_whose_times_cannot_be_told(tmp_path):
    """Rather a slice less than frames in wrong places."""

    def change(data, z, t):
        del data.TriggerTime
        data.InstanceNumber = 1 + 100 * z + t * (z + 1)
        return None if (z, t) == (3, 0) else data

    case, notes = read(write(tmp_path, change))
    image = array(case)
    assert image.shape[2] == SLICES - 1
    np.testing.assert_array_equal(image, volume()[:, :, :3])
    assert any("slice 4 has 4 frames instead of 5, at unknown times" in n for n in notes.values())


def test_frames_that_cover_part_of_the_cycle(tmp_path):
    def change(data, _, t):
        data.TriggerTime = t * 100
        return data

    case, notes = read(write(tmp_path, change))
    assert_right(case)
    assert any("cover 62 % of the cycle" in note for note in notes.values())


def test_an_impossible_cycle_is_unknown(tmp_path):
    def in_seconds(data, _, t):
        data.TriggerTime = t * RR / FRAMES / 1000
        data.NominalInterval = 0
        return data

    case, _ = read(write(tmp_path, in_seconds))
    assert case.stacks[0].cycle_ms is None


def test_duplicates(tmp_path):
    folder = write(tmp_path)
    save(again := instance(1, 2), folder / "again")  # sent once more, under a new UID
    again.InstanceNumber = 999
    save(again, folder / "again")
    (folder / "copy").write_bytes((folder / "IM0000").read_bytes())
    case, notes = read(folder)
    assert_right(case)
    assert any("1 copy of the same image left out" in note for note in notes.values())
    assert any("1 image left out, with the trigger time of another" in note for note in notes.values())


def test_a_cine_sent_twice_is_one_cine(tmp_path):
    """Each image again under a new UID and number: neither twice as many frames nor another cycle."""
    folder = write(tmp_path)
    for z in range(SLICES):
        for t in range(FRAMES):
            again = instance(z, t)
            again.InstanceNumber = 900 + z * FRAMES + t
            save(again, folder / f"again{z}{t}")
    case, notes = read(folder)
    assert_right(case)
    assert case.stacks[0].cycle_ms == RR
    assert any("20 images left out, with the trigger time of another" in note for note in notes.values())


# Slices


def test_a_gap_between_slices(tmp_path):
    case, notes = read(write(tmp_path, lambda data, z, _: None if z == 1 else data))
    measured = MEASURED.copy()
    measured[1] = False
    assert_right(case, measured)
    assert any("gaps between slices (8, 16 mm): 1 of 4 slices were not measured" in n for n in notes.values())


def test_uneven_and_shifted_slices_are_refused(tmp_path):
    def uneven(data, z, _):
        data.ImagePositionPatient = place(z + 0.3 * (z == 2))
        return data

    def shifted(data, z, _):
        data.ImagePositionPatient = list(np.array(place(z)) + ROW * (z % 2) * 3)
        return data

    with pytest.raises(BadFileError, match=r"its slices are 5\.6, 8, 10\.4 mm apart, which is no even stack"):
        read(write(tmp_path / "uneven", uneven))

    def shifted_later(data, z, t):
        data.ImagePositionPatient = list(np.array(place(z)) + ROW * (t % 2) * 3)
        return data

    with pytest.raises(BadFileError, match="shifted against each other in their plane by up to 2 mm"):
        read(write(tmp_path / "shifted", shifted))
    with pytest.raises(BadFileError, match=r"images at one position .* in their plane by up to 3 mm"):
        read(write(tmp_path / "later", shifted_later))


def test_slices_that_lost_their_positions_are_refused(tmp_path):
    def anonymised(data, z, _):
        data.ImagePositionPatient = place(0)
        data.SliceLocation = -20.0 + STEP * z
        return data

    last = -20 + STEP * (SLICES - 1)
    with pytest.raises(
        BadFileError, match=rf"have a SliceLocation of -20 to {last:g} mm, so their positions"
    ):
        read(write(tmp_path / "lost", anonymised))

    def drifting(data, z, t):
        data.SliceLocation = STEP * z + 0.1 * t
        return data

    assert_right(read(write(tmp_path / "whole", drifting))[0])


def leaning(degrees, gap=None):
    """A change of each image: slices follow each other in a direction off their normal."""
    step = np.cos(np.radians(degrees)) * NORMAL + np.sin(np.radians(degrees)) * ROW

    def change(data, z, _):
        data.ImagePositionPatient = [float(f"{number:.6f}") for number in ORIGIN + z * STEP * step]
        if gap is not None:
            data.SpacingBetweenSlices = gap
        return data

    return change


def test_slices_that_do_not_follow_their_normal(tmp_path):
    """An orientation lost in anonymisation leaves stacks that seem even, but far too thin."""

    def lost(data, *_):
        data.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        return data

    off = np.degrees(np.arccos(abs(NORMAL[2])))
    said = rf"7: its slices are 8 mm apart in a direction {off:.0f} degrees off .* \(.* 1, 0, 0, 0, 1, 0\)"
    with pytest.raises(BadFileError, match=said):
        read(write(tmp_path / "lost", lost))
    for name, change in (("far", leaning(50)), ("across", leaning(90)), ("told", leaning(33, STEP))):
        with pytest.raises(BadFileError, match=r"series 7: .*; .*use another series"):
            read(write(tmp_path / name, change))


@pytest.mark.parametrize(
    ("degrees", "gap"), [(3, STEP), (15, None), (20, STEP), (28, STEP * 0.883), (5, 2.0)]
)
def test_tilted_stacks_keep_their_volume(tmp_path, degrees, gap):
    case, _ = read(write(tmp_path, leaning(degrees, gap)))
    ml = SPACING[0] * SPACING[1] * STEP * np.cos(np.radians(degrees)) / 1000
    assert series_grid(case).voxel_ml == pytest.approx(ml, rel=1e-3)


def test_a_single_slice_without_thickness_is_noted(tmp_path):
    data = instance(2, 0)
    del data.SliceThickness
    case, notes = read(save(data, tmp_path / "one"))
    assert series_grid(case).spacing[2] == pytest.approx(1)
    assert "one slice of exactly 1 mm, which is assumed" in notes["thickness"]
    assert any("one slice of exactly 1 mm" in note for note in check_cohort(tmp_path, HEART).notes)


def test_pixels_are_checked_as_those_of_other_formats_are(tmp_path):
    def change(data, z, t):
        image = np.full((COLUMNS, ROWS), -2000, np.int16)
        if z < 3:
            image[1:-1, 1:-1] = pixels(z, t)[1:-1, 1:-1]
        fill(data, image)
        return data

    (case,) = check_cohort(write(tmp_path, change), HEART).cases
    assert [(problem.severity, problem.message.partition(": ")[2]) for problem in case.problems] == [
        ("warning", f"{FRAMES} of {SLICES * FRAMES} slices are blank; treated as not measured"),
        ("warning", "60 % of the pixels are padding or not a number, and are ignored"),
    ]


def test_mixed_matrix_sizes(tmp_path):
    def change(data, z, t):
        if z == 3:
            fill(data, pixels(z, t, 8, 8))
        return data

    cohort = listed(write(tmp_path, change))
    study = cohort.cases[0].stacks[0].series
    assert study is not None
    assert [one.number for one in study.series] == ["7.1", "7.2"]
    case = read_case(cohort.cases[0], HEART, cohort.notes)
    np.testing.assert_array_equal(array(case), volume()[:, :, :3])
    assert any(
        "5 images of 8 x 8 pixels beside 15 of 6 x 5: only the latter are used" in note
        for note in cohort.notes.values()
    )


def test_no_pixel_spacing_is_refused(tmp_path):
    """Not taken as 1 mm, with which every volume would be wrong."""

    def change(data, *_):
        del data.PixelSpacing
        return data

    with pytest.raises(BadFileError, match="its header gives no pixel spacing"):
        read(write(tmp_path, change))


def test_opposite_normal_and_single_slice(tmp_path):
    """Rows and columns exchanged: other array axes, the same places in the world."""

    def change(data, z, t):
        data.ImageOrientationPatient = [float(f"{number:.6f}") for number in (*COLUMN, *ROW)]
        data.PixelSpacing = list(reversed(data.PixelSpacing))
        fill(data, pixels(z, t).T)
        return data

    case, _ = read(write(tmp_path / "turned", change))
    image, grid = array(case), series_grid(case)
    np.testing.assert_array_equal(image, volume().transpose(1, 0, 2, 3)[:, :, ::-1])
    there = grid.affine(np.array([4.0, 2.0, 0.0]))
    np.testing.assert_allclose(there, (affine() @ [2, 4, 3, 1])[:3], atol=1e-3)
    case, _ = read(save(instance(2, 0), tmp_path / "one"))
    np.testing.assert_allclose(series_grid(case).spacing, [1.5, 1.25, 8.0], rtol=1e-5)
    np.testing.assert_allclose(series_grid(case).affine.normal(), NORMAL * [-1, -1, 1], atol=1e-5)


# Series


def test_series_split_by_slice_and_by_phase(tmp_path):
    def by_slice(data, z, _):
        data.SeriesInstanceUID, data.SeriesNumber = f"1.2.3.1.{20 + z}", 20 + z
        data.SeriesDescription = f"cine_sa_{z + 1}"
        return data

    def by_phase(data, _, t):
        data.SeriesInstanceUID, data.SeriesNumber = f"1.2.3.1.{20 + t // 3}", 20 + t // 3
        return data

    for name, change in (("slice", by_slice), ("phase", by_phase)):
        cohort = listed(write(tmp_path / name, change))
        study = cohort.cases[0].stacks[0].series
        assert study is not None
        assert len(study.series) == 1
        assert study.chosen().numbers[0] == "20"
        assert_right(read_case(cohort.cases[0], HEART))


def test_split_series_whose_images_have_frames_of_reference_of_their_own(tmp_path):
    def change(data, z, _):
        data.FrameOfReferenceUID = generate_uid()
        if z > 1:
            data.SeriesInstanceUID, data.SeriesNumber = "1.2.3.1.8", 8
        return data

    case, _ = read(write(tmp_path, change))
    assert_right(case)


def test_other_short_axis_stacks_are_named(tmp_path):
    def change(data, z, _):
        if z > 3:  # another bed position
            data.SeriesInstanceUID, data.SeriesNumber, data.FrameOfReferenceUID = "1.2.3.1.8", 8, "1.2.3.1.10"
        return data

    case, notes = read(write(tmp_path, change, slices=8))
    assert case.stacks[0].grid.shape[2] == 4
    assert any("series 7: also short-axis stacks: 8, which are not used" in note for note in notes.values())


def test_a_slice_measured_again(tmp_path):
    def change(data, z, _):
        data.SeriesInstanceUID, data.SeriesNumber = f"1.2.3.1.{20 + z}", 20 + z
        return data

    folder = write(tmp_path, change)
    for t in range(FRAMES):
        first = instance(1, t)  # the earlier try, with other pixels and another heart beat
        first.SeriesInstanceUID, first.SeriesNumber = "1.2.3.1.19", 19
        first.TriggerTime = f"{(t + 0.6) * RR / FRAMES:.3f}"
        fill(first, pixels(9, t))
        save(first, folder / f"first{t}")
    case, notes = read(folder)
    assert_right(case)
    assert any("1 slice measured more than once: the last is used" in note for note in notes.values())


def beside(folder: Path) -> Path:
    """A study: short-axis cine, late enhancement of the same slices, three long axes, a localiser."""
    write(folder)
    for z in range(SLICES):
        late = instance(z, 0)
        late.SeriesInstanceUID, late.SeriesNumber, late.SeriesDescription = (
            "1.2.3.1.8",
            8,
            f"LGE {NAME} {DATE}",
        )
        save(late, folder / f"late{z}")
    axis = -NORMAL
    up = np.array([0.0, 0.0, 1.0])
    four = up - (up @ axis) * axis
    four /= np.linalg.norm(four)
    two = np.cross(axis, four)
    planes = {30: four, 31: two, 32: (two - four) / np.sqrt(2)}
    for number, normal in planes.items():
        for t in range(FRAMES):
            data = instance(0, t)
            data.SeriesInstanceUID, data.SeriesNumber, data.SeriesDescription = (
                f"1.2.3.1.{number}",
                number,
                "",
            )
            data.ImageOrientationPatient = [float(f"{n:.6f}") for n in (*axis, *np.cross(normal, axis))]
            save(data, folder / f"long{number}-{t}")
    for number in range(3):
        data = instance(0, 0)
        data.SeriesInstanceUID, data.SeriesNumber, data.SeriesDescription = "1.2.3.1.1", 1, "localiser"
        axes = np.roll(np.eye(3), number, axis=1)[:2]
        data.ImageOrientationPatient = [float(n) for n in axes.ravel()]
        save(data, folder / f"localiser{number}")
    return folder


def test_guesses_and_choice(tmp_path):
    cohort = listed(beside(tmp_path / "study"))
    study = cohort.cases[0].stacks[0].series
    assert study is not None
    assert {one.number: one.guess.shows for one in study.series} == {
        **dict.fromkeys(("1.1", "1.2", "1.3"), "other"),
        "7": "short axis stack",
        "8": "short axis stack",
        "30": "4-chamber",
        "31": "2-chamber",
        "32": "3-chamber",
    }
    assert study.chosen().number == "7"
    assert "4 slices, 5 frames, normal" in study.chosen().guess.why
    assert_right(read_case(cohort.cases[0], HEART))
    late = with_series(cohort, "8")
    assert array(read_case(late.cases[0], HEART)).shape == (COLUMNS, ROWS, SLICES, 1)
    assert late.cases[0].attributes != cohort.cases[0].attributes  # not taken for one another
    assert with_series(cohort, "2-chamber").cases[0].stacks[0].series.chosen().number == "31"
    assert with_series(cohort, "CINE").cases[0].stacks[0].series.chosen().number == "7"
    for wanted, what in (("1", "3 of its series fit '1'"), ("99", "none of its series fit '99'")):
        with pytest.raises(BadFileError, match=what):
            read_case(with_series(cohort, wanted).cases[0], HEART)


def test_no_short_axis_among_several(tmp_path):
    def change(data, z, _):
        data.SeriesInstanceUID, data.SeriesNumber, data.SeriesDescription = (
            f"1.2.3.1.{z}",
            z,
            "ab"[z] + " 4ch",
        )
        return data

    cohort = listed(write(tmp_path, change, slices=2))
    with pytest.raises(BadFileError, match="no short-axis stack among its series"):
        read_case(cohort.cases[0], HEART)


def test_a_study_of_another_organ_has_no_short_axis_stack(tmp_path):
    """Its only volume is used, whatever its direction; of several, one must be named."""

    def brain(data, z, t):
        localiser = t == 1
        if localiser and z:
            return None
        data.SeriesInstanceUID, data.SeriesNumber = f"1.2.3.1.{t}", t + 1
        data.SeriesDescription = "localiser" if localiser else f"T1 {t}"
        del data.TriggerTime, data.NominalInterval
        return data

    anatomy = load_anatomy("hippocampus")
    one, two = (
        open_cohort(write(tmp_path / str(frames), brain, frames=frames), anatomy) for frames in (2, 3)
    )
    assert one.cases[0].stacks[0].series.chosen().description == "T1 0"
    shape = read_case(one.cases[0], anatomy).stacks[0].grid.shape
    assert sorted(shape) == sorted((COLUMNS, ROWS, SLICES))
    with pytest.raises(
        BadFileError, match=r"not just one volume in it; name one .*: 1 T1 0; 2 localiser; 3 T1 2"
    ):
        read_case(two.cases[0], anatomy)


@pytest.mark.parametrize(
    ("metres", "kg", "found"),
    [(1.8, 80, {"height_cm": "180", "weight_kg": "80"}), (0, 80, {}), (1.8, None, {})],
)
def test_height_and_weight_for_indexed_measures(tmp_path, metres, kg, found):
    def change(data, *_):
        data.PatientSize, data.PatientWeight = metres, kg
        return data

    case, _ = read(write(tmp_path, change))
    assert {key: value for key, value in case.attributes.items() if key != "series"} == found


def test_a_case_is_a_study(tmp_path):
    for number, name in enumerate(("b", "a", f"{ID}_x"), start=1):

        def change(data, _, t, number=number):
            data.StudyInstanceUID, data.SeriesInstanceUID = f"1.2.{number}", f"1.2.{number}.7"
            return data if t == 0 else None

        write(tmp_path / "all" / name / "series", change)
    cohort = listed(tmp_path / "all")
    assert sorted(case.name for case in cohort.cases) == ["a", "b", "x"]
    assert sorted(case.name for case in with_identifiers(cohort).cases) == [f"{ID}_x", "a", "b"]


# What is refused


def test_pixel_data_shorter_than_declared(tmp_path):
    folder = write(tmp_path)
    path = folder / "IM0003"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(
        BadFileError, match=r"IM0003: its header declares 30 voxels .*, 60 bytes, but only .*truncated"
    ):
        read(folder)


def test_lies_about_size_allocate_nothing(tmp_path):
    data = instance(0, 0)
    data.Rows = data.Columns = 65535
    data.NumberOfFrames = 250
    with pytest.raises(BadFileError, match="declares 1073709056250 voxels"):
        read(save(data, tmp_path / "lie"))


def test_bombs(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("IM0", b"\0" * 128 + b"DICM" + bytes(5_000_000))
    with pytest.raises(BadFileError, match="which no image does"):
        listed(tmp_path / "bomb.zip")
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04" + b"\0" * 300)
    with pytest.raises(BadFileError, match="cannot be read as a zip"):
        listed(tmp_path / "broken.zip")


def test_archives_without_images_of_their_own(tmp_path):
    (tmp_path / "outer").mkdir()
    with zipfile.ZipFile(tmp_path / "outer" / "outer.zip", "w") as archive:
        archive.writestr("inner.zip", b"PK\x03\x04" + b"\0" * 200)
    with pytest.raises(BadFileError, match=r"archives in the archive are not opened; unpack them first"):
        listed(tmp_path / "outer" / "outer.zip")
    with pytest.raises(BadFileError, match=r"holds an archive \(outer.zip\) and no known images; unpack it"):
        listed(tmp_path / "outer")
    with zipfile.ZipFile(tmp_path / "scans.zip", "w") as archive:
        archive.writestr("scan.nii", b"\0" * 400)
    with pytest.raises(BadFileError, match=r"scans.zip: no case .*\(no DICOM image in it; unpack zip"):
        listed(tmp_path / "scans.zip")


def test_one_broken_archive_or_link_costs_itself(tmp_path):
    write(tmp_path / "all" / "a")
    (tmp_path / "all" / f"{ID}.zip").write_bytes(b"PK\x03\x04" + b"\0" * 300)
    (tmp_path / "all" / "link").symlink_to(tmp_path / "gone")
    cohort = listed(tmp_path / "all")
    assert_right(read_case(cohort.cases[0], HEART))
    messages = sorted(problem.message for problem in cohort.problems if problem.severity == "error")
    assert [message.split(": ")[1][:24] for message in messages] == [
        "cannot be read as a zip ",
        "a link with a missing ta",
    ]
    assert not any(ID in message for message in messages)


def test_files_that_share_a_uid_are_not_copies(tmp_path):
    def change(data, *_):
        data.SOPInstanceUID = "1.2.3"
        return data

    assert_right(read(write(tmp_path, change))[0])


def test_series_means_nothing_without_dicom(tmp_path, capsys):
    nib = pytest.importorskip("nibabel")
    nib.save(nib.Nifti1Image(volume(), np.eye(4)), tmp_path / "a.nii.gz")
    out = str(tmp_path / "out")
    assert main(["segment", str(tmp_path / "a.nii.gz"), "-o", out, "--series", "7"]) == 2
    assert "only DICOM has series to choose from (--series)" in capsys.readouterr().err


def test_colour_and_unplaced_images(tmp_path):
    def colour(data, *_):
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit, data.PixelRepresentation = 7, 0
        data.PixelData = bytes(3 * ROWS * COLUMNS)
        return data

    def unplaced(data, *_):
        del data.ImagePositionPatient
        return data

    for name, change, what in (("c", colour, "colour images"), ("u", unplaced, "no short-axis stack")):
        with pytest.raises(BadFileError, match=what):
            read(write(tmp_path / name, change))
    cohort = with_series(listed(tmp_path / "u"), "7")
    with pytest.raises(BadFileError, match="its headers give no position and orientation"):
        read_case(cohort.cases[0], HEART)


@pytest.mark.parametrize(("signed", "bits"), [(1, 16), (0, 16)])
def test_images_stored_with_the_lowest_number_white(tmp_path, signed, bits):
    def inverted(data, *_):
        stored = np.frombuffer(data.PixelData, "<i2").astype(int)
        data.PixelData = (
            ((-1 if signed else 2**bits - 1) - stored).astype("<i2" if signed else "<u2").tobytes()
        )
        data.PhotometricInterpretation = "MONOCHROME1"
        data.PixelRepresentation, data.BitsStored, data.HighBit = signed, bits, bits - 1
        data.RescaleSlope, data.RescaleIntercept = 2, 5
        return data

    case, _ = read(write(tmp_path, inverted))
    assert np.array_equal(array(case), 2 * volume() + 5)


COMPRESSED = {
    "RLE": (RLELossless, None),
    "JPEG-LS": (JPEGLSLossless, "jpeg_ls"),
    "JPEG 2000": (JPEG2000Lossless, "openjpeg"),
}


def compressed(name):
    """Turns an image into one that is compressed without loss; skips the test where no encoder is."""
    syntax, encoder = COMPRESSED[name]
    if encoder is not None:
        pytest.importorskip(encoder)

    def change(data, z, t):
        fill(data, large(z, t))
        data.compress(syntax, generate_instance_uid=False)
        return data

    return change


def large(z, t):
    """The image in pixels of 16 x 16, since JPEG 2000 takes no smaller ones."""
    return np.kron(pixels(z, t), np.ones((16, 16))).astype(np.int16)


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed(tmp_path, name):
    image = array(read(write(tmp_path / "series", compressed(name)))[0])
    for z in range(SLICES):
        for t in range(FRAMES):
            np.testing.assert_array_equal(image[:, :, z, t], large(z, t))


@pytest.mark.parametrize(
    ("name", "packages"),
    [
        ("RLE", "pylibjpeg pylibjpeg-rle"),
        ("JPEG-LS", "pylibjpeg pylibjpeg-libjpeg"),
        ("JPEG 2000", "pylibjpeg pylibjpeg-openjpeg"),
    ],
)
def test_a_decoder_is_missing(tmp_path, monkeypatch, name, packages):
    """As where none of pydicom's plugins is installed."""
    from pydicom.pixels import get_decoder

    syntax, _ = COMPRESSED[name]

    def foreign(data, *_):
        data.file_meta.TransferSyntaxUID = syntax
        data.PixelData = encapsulate([bytes(60)])
        return data

    write(tmp_path / "series", foreign)
    decoder = get_decoder(syntax)
    monkeypatch.setattr(decoder, "_available", {})
    monkeypatch.setattr(decoder, "_unavailable", {"gdcm": ("gdcm>=3.0.10",)})
    with pytest.raises(BadFileError, match=rf"compressed as {name}.*pip install {packages}$"):
        read(tmp_path / "series")


def test_compressed_and_damaged(tmp_path):
    """A decoder is there; nothing needs to be installed."""

    def damaged(data, *_):
        data.file_meta.TransferSyntaxUID = RLELossless
        data.PixelData = encapsulate([bytes(60)])
        return data

    with pytest.raises(BadFileError, match=r"its pixels cannot be read .*copy or export it again"):
        read(write(tmp_path / "series", damaged))


def test_pydicom_missing(tmp_path, monkeypatch):
    path = save(instance(0, 0), tmp_path / "one")
    found = builtins.__import__

    def without(name, *arguments, **options):
        if name.split(".")[0] == "pydicom":
            raise ModuleNotFoundError(name)
        return found(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BadFileError, match=r"pip install 'nisf\[dicom\]'"):
        listed(path)


# Who it is


# Real data


def test_sunnybrook_zip_is_its_nifti():
    folder = real_data("sunnybrook")
    case, _ = read(folder / "SC-HF-I-1_dicom.zip")
    same = read_case(open_cohort(folder / "SC-HF-I-1_sa.nii.gz", HEART).cases[0], HEART)
    np.testing.assert_array_equal(array(case), array(same))
    assert case.stacks[0].arrangement == same.stacks[0].arrangement
    ours, theirs = case.stacks[0], same.stacks[0]
    np.testing.assert_allclose(series_grid(case).affine.matrix, series_grid(same).affine.matrix, atol=2e-6)
    np.testing.assert_array_equal(ours.grid.times, theirs.grid.times)
    np.testing.assert_array_equal(ours.intensity_range, theirs.intensity_range)
    assert ours.cycle_ms == 759


@pytest.mark.slow
def test_sunnybrook_zip_is_segmented_like_its_nifti(tmp_path):
    nib = pytest.importorskip("nibabel")
    folder = real_data("sunnybrook")
    labels = []
    for name in ("dicom.zip", "sa.nii.gz"):
        assert main(["segment", str(folder / f"SC-HF-I-1_{name}"), "-o", str(tmp_path)]) == 0
        file = nib.load(tmp_path / f"SC-HF-I-1_{name.split('.')[0]}_seg.nii.gz")
        labels.append(np.asarray(file.dataobj))
    assert file.header["pixdim"][4] == pytest.approx(40.0)
    assert labels[0].shape == labels[1].shape
    # Affines differ by a NIfTI's rounding, 5e-7 mm: it decides a voxel that is in between.
    assert np.count_nonzero(labels[0] != labels[1]) <= 1e-4 * np.count_nonzero(labels[1])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cine SA", "cine SA"),
        (f"LGE {NAME} {DATE}", "LGE"),
        ("sa 2019-03-14 rest", "sa rest"),
        ("sa_14.03.2019", "sa"),
        ("Erika_sa_14Mar2019", "sa"),
        ("musterhaft 2ch", "musterhaft 2ch"),
        (f"{ID}-4ch", "4ch"),
        ("1.2.840.113619.2.20190314.5.6", ""),
        (DATE, ""),
    ],
)
def test_descriptions_without_identifiers(text, shown):
    assert Identifiers([NAME, ID]).plain(text) == shown


def test_no_identifiers_in_any_output(tmp_path, capsys):
    folder = beside(tmp_path / f"{ID}_Erika_{DATE}")
    (folder / f"bad{DATE}").write_bytes(b"\0" * 128 + b"DICM" + b"\x08\0\x05\0CS\xff\xff" + b"A" * 300)
    truncated = instance(0, 1)
    truncated.SeriesInstanceUID, truncated.SeriesNumber, truncated.SeriesDescription = "1.2.3.1.50", 50, ""
    path = save(truncated, folder / f"Muster_{ID}")
    path.write_bytes(path.read_bytes()[:-30])
    for options in ([], ["--json"]):
        main(["check", str(folder), *options])
        printed = capsys.readouterr()
        shown = (printed.out + printed.err).replace(json.dumps(str(folder))[1:-1], "")
        assert hidden(shown)
    report = json.loads(printed.out)
    (case,) = report["cases"]
    assert case["name"] == "study"
    series = {one["number"]: one for one in case["series"]}
    assert series["8"]["description"] == "LGE"
    assert [number for number, one in series.items() if one["taken"]] == ["7"]
    assert series["30"]["guess"] == "4-chamber"
    assert "normal" in series["30"]["why"]
    with pytest.raises(BadFileError) as raised:
        read_case(with_series(listed(folder), "50").cases[0], HEART)
    assert hidden(str(raised.value).replace(str(folder), ""))
    main(["check", str(folder), "--json", "--identifiers"])
    (case,) = json.loads(capsys.readouterr().out)["cases"]
    assert case["person"] == {"name": NAME, "id": ID, "date": DATE}
    assert case["name"] == folder.name
