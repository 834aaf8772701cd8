from dataclasses import replace

import numpy as np
import pytest

from nisf.data.anatomy import Anatomy, load_anatomy
from nisf.data.case import Stack
from nisf.data.geometry import Affine, Grid, cycle_times
from nisf.data.measure_rules import MeasureRule
from nisf.data.region import Region
from nisf.errors import BadSettingError
from nisf.measures.case import MeasureOptions, Measuring, measure, said_by
from nisf.phantom import Heart, Scanner, ejection_fraction, label, scan, volumes_ml
from nisf.uncertainty.intervals import times_of
from true_subjects import hearts, true_heart, true_subject

LV, MYO, RV = load_anatomy("cardiac-sax").labels[1:]


@pytest.fixture(scope="module")
def cine():
    """A heart at 12 times, and its measures."""
    heart, scanner = hearts()[0]
    return heart, measure(true_heart(heart, 12, scanner, cycle_ms=850.0))


def test_a_cine(cine):
    heart, found = cine
    full, empty = volumes_ml(heart, 0.0), volumes_ml(heart, heart.end_systole)
    # Twelve frames leave the extrema between them to the spline.
    assert found.values["lv_edv_ml"] == pytest.approx(full[LV], rel=0.01)
    assert found.values["lv_esv_ml"] == pytest.approx(empty[LV], rel=0.02)
    assert found.values["lv_ef_percent"] == pytest.approx(100 * heart.ejection_fraction, abs=1.0)
    assert found.values["rv_ef_percent"] == pytest.approx(100 * ejection_fraction(heart, RV), abs=1.5)
    assert found.values["lv_mass_g"] == pytest.approx(1.05 * full[MYO], rel=0.01)
    assert found.values["heart_rate_bpm"] == pytest.approx(60 / 0.85)
    stroke = (full[LV] - empty[LV]) / 1000
    assert found.values["co_l_per_min"] == pytest.approx(stroke * 60 / 0.85, rel=0.02)
    assert abs(found.phases["ES"] - heart.end_systole) < 0.03
    assert found.notes == ()


def test_the_curve_holds_the_measured_times_only(cine):
    _, found = cine
    assert np.array_equal(found.curve.times, cycle_times(12))
    assert set(found.curve.ml) == set(found.curve.slices_ml) == {LV, MYO, RV}


def test_a_pair_at_the_phases_that_the_file_says():
    heart, scanner = hearts()[1]
    phases = {"ED": 0.0, "ES": heart.end_systole}
    said = {"phases": phases, "height_cm": "180.0", "weight_kg": "80.0"}
    found = measure(true_heart(heart, scanner=scanner, times=list(phases.values()), said=said))
    assert found.phases == phases
    assert found.body_m2 == pytest.approx(2.0)
    assert found.values["lv_edv_index_ml_per_m2"] == pytest.approx(found.values["lv_edv_ml"] / 2)
    assert found.values["co_l_per_min"] is None
    assert found.values["lv_ef_percent"] == pytest.approx(100 * heart.ejection_fraction, abs=0.6)


def test_times_that_are_not_in_order():
    """As where the file of end-systole comes first."""
    heart, scanner = hearts()[1]
    found = measure(true_heart(heart, scanner=scanner, times=[heart.end_systole, 0.0]))
    assert found.phases == {"ED": 0.0, "ES": heart.end_systole}
    assert found.values["lv_edv_ml"] == pytest.approx(volumes_ml(heart, 0.0)[LV], rel=0.01)
    assert found.values["lv_edv_slices_ml"] > found.values["lv_esv_slices_ml"]
    assert found.wall.thickness_mm["ES"][6:12].mean() > found.wall.thickness_mm["ED"][6:12].mean()


def test_frames_that_the_user_gives():
    heart, scanner = hearts()[1]
    subject = true_heart(heart, 10, scanner)
    found = measure(subject, MeasureOptions({"ES": 8}, body_m2=1.7))
    assert found.phases["ES"] == 0.8
    assert found.values["lv_esv_ml"] == pytest.approx(volumes_ml(heart, 0.8)[LV], rel=0.01)
    assert found.notes[0].startswith("ES: the request says 0.80")
    assert found.body_m2 == 1.7


@pytest.mark.parametrize("frames", [{"ES": 10}, {"ED": -1}, {"peak": 0}])
def test_frames_that_are_not_there(frames):
    with pytest.raises(BadSettingError, match=next(iter(frames))):
        Measuring(true_heart(Heart(), 10), MeasureOptions(frames))


@pytest.mark.parametrize(
    ("height", "weight", "why"),
    [
        ("1.80", "80", "1.8 cm and 80 kg"),
        ("5'9", "80", r"""height_cm "5'9" and weight_kg '80', but two numbers are needed"""),
        ("170,5", "80", "height_cm '170,5' and weight_kg '80'"),
        ("180", "", "height_cm '180' and weight_kg ''"),
    ],
)
def test_heights_that_cannot_be_true(height, weight, why):
    said = {"phases": {"ED": 0.0}, "height_cm": height, "weight_kg": weight}
    found = measure(true_heart(Heart(), times=[0.0], said=said))
    assert found.body_m2 is None
    assert any("no measures indexed to body surface area" in note and why in note for note in found.notes)


def test_measuring_while_rendering_gives_the_same():
    heart, scanner = hearts()[2]
    subject = true_heart(heart, scanner=scanner)
    measuring = Measuring(subject)
    rendering = subject.render(after_frame=measuring.frame)
    found, again = measuring.finish(rendering), measure(subject)
    assert found.values == again.values
    assert len(measuring._kept) <= 2


def test_an_anatomy_that_declares_nothing():
    """Two balls of a brain in a grid of 1 mm: volume, surface, extent of each."""
    anatomy = load_anatomy("hippocampus")

    def label_at(world, _):
        first, second = (np.linalg.norm(world - (x, 0, 0), axis=-1) < r for x, r in ((-9, 7), (9, 5)))
        return (first + 2 * second).astype(np.int64)

    grid = Grid((44, 44, 44), Affine.scaling((1.0, 1.0, 1.0), (-21.5, -21.5, -21.5)))
    region = Region(Affine(np.eye(4)), np.array([22.0, 22.0, 22.0]))
    found = measure(true_subject(label_at, region, Stack("t1", grid), anatomy=anatomy))
    wanted = {"anterior": 7.0, "posterior": 5.0}
    assert list(found.values) == [
        *(f"{name}{what}" for name in wanted for what in ("_ml", "_surface_mm2", "_extent_mm")),
        *(f"{name}_slices_ml" for name in wanted),
    ]
    for name, radius in wanted.items():
        ml = 4 / 3 * np.pi * radius**3 / 1000
        assert found.values[f"{name}_ml"] == pytest.approx(ml, rel=0.01)
        assert found.values[f"{name}_slices_ml"] == pytest.approx(ml, rel=0.06)  # voxels of 1 mm
        assert found.values[f"{name}_surface_mm2"] == pytest.approx(4 * np.pi * radius**2, rel=0.03)
        assert found.values[f"{name}_extent_mm"] == pytest.approx(2 * radius, rel=0.05)
    assert found.wall is None
    assert found.phases == {}


@pytest.mark.parametrize("times", [[0.0, 0.25, 0.5, 0.75], [0.5, 0.25, 0.0, 0.75]])
def test_measures_at_no_phase_are_of_the_first_time(times):
    """Not of the phase that is nearest to it; the ball grows until half the cycle."""
    radii = {0.0: 20.0, 0.25: 28.0, 0.5: 30.0, 0.75: 18.0}
    rules = (
        MeasureRule("ball", "volume", "ball"),
        MeasureRule("ball_face", "surface", "ball"),
        MeasureRule("ball_width", "extent", "ball"),
        MeasureRule("ball_most", "extent", "ball", "most"),
    )
    phases = {"by": "ball", "largest": "most", "smallest": "least"}
    colours = ("#000000", "#ff0000")
    anatomy = Anatomy("balls", ("background", "ball"), colours, phases, declared=rules)

    def label_at(world, time):
        return (np.linalg.norm(world, axis=-1) < radii[time]).astype(np.int64)

    grid = Grid((64, 64, 64), Affine.scaling((1.0, 1.0, 1.0), (-31.5, -31.5, -31.5))).at_times(times)
    region = Region(Affine(np.eye(4)), np.array([32.0, 32.0, 32.0]))
    found = measure(true_subject(label_at, region, Stack("t1", grid), anatomy=anatomy))
    assert found.phases == {"most": 0.5, "least": 0.75}
    assert found.values["ball_ml"] == pytest.approx(4 / 3 * np.pi * 8, rel=0.01)
    assert found.values["ball_face_mm2"] == pytest.approx(4 * np.pi * 400, rel=0.03)
    assert found.values["ball_width_mm"] == pytest.approx(40, rel=0.03)
    assert found.values["ball_most_mm"] == pytest.approx(60, rel=0.03)
    assert times_of(anatomy, found) == [0.5, 0.75, 0.0]


def test_a_heart_of_a_prior_without_declarations():
    anatomy = replace(load_anatomy("cardiac-sax"), declared=(), wall=None)
    heart, scanner = hearts()[3]
    subject = true_heart(heart, scanner=scanner, times=[0.0, heart.end_systole], anatomy=anatomy)
    found = measure(subject)
    full = volumes_ml(heart, 0.0)
    assert found.values["lv_blood_pool_ed_ml"] == pytest.approx(full[LV], rel=0.01)
    assert found.values["rv_blood_pool_es_extent_mm"] > 20
    assert found.wall is None


def test_what_a_case_says():
    case = replace(
        scan(Heart(), Scanner(matrix=(32, 32), spacing_mm=5.0, frames=2)).case,
        attributes={"group": "DCM", "height_cm": "180", "weight_kg": "80"},
    )
    said = said_by(case)
    assert set(said) == {"phases", "height_cm", "weight_kg"}
    assert said["phases"] == dict(case.phases)


def test_a_subject_of_points_alone_is_measured_at_its_phases():
    heart = Heart()
    region = true_heart(heart).region
    said = {"phases": {"ED": 0.0, "ES": heart.end_systole}}
    found = measure(true_subject(lambda world, time: label(heart, world, time), region, None, said=said))
    assert found.values["lv_edv_ml"] == pytest.approx(volumes_ml(heart, 0.0)[LV], rel=0.01)
    assert found.values["lv_ef_percent"] == pytest.approx(100 * heart.ejection_fraction, abs=0.6)
    assert found.values["lv_ef_slices_percent"] is None
    assert found.wall is None
    assert "no slices" in found.notes[0]


def test_structures_whose_names_differ_in_signs_only_have_their_own_measures():
    labels, sides = ("background", "T1+", "T1-", "T1 surface"), (10.0, 20.0, 30.0)
    colours = ("#000000", "#ff0000", "#00ff00", "#0000ff")
    anatomy = Anatomy("boxes", labels, colours, None)

    def label_at(world, _):
        """Boxes of these sides, one after the other along the first axis."""
        found = np.zeros(len(world), dtype=np.int64)
        for k, (side, x) in enumerate(zip(sides, (-30.0, -10.0, 20.0), strict=True), start=1):
            found[np.abs(world - (x, 0, 0)).max(-1) < side / 2] = k
        return found

    grid = Grid((80, 40, 40), Affine.scaling((1.0, 1.0, 1.0), (-39.5, -19.5, -19.5)))
    region = Region(Affine(np.eye(4)), np.array([40.0, 20.0, 20.0]))
    found = measure(true_subject(label_at, region, Stack("t1", grid), anatomy=anatomy)).values
    assert [name for name in found if name.endswith("_slices_ml")] == [
        "t1_slices_ml",
        "t1_2_slices_ml",
        "t1_surface_3_slices_ml",
    ]
    assert [found[name] for name in ("t1_slices_ml", "t1_2_slices_ml", "t1_surface_3_slices_ml")] == [
        1,
        8,
        27,
    ]
    for name, side in (("t1", 10.0), ("t1_2", 20.0), ("t1_surface_3", 30.0)):
        assert found[f"{name}_ml"] == pytest.approx(side**3 / 1000, rel=0.02)
        assert found[f"{name}_extent_mm"] == pytest.approx(side * 3**0.5, rel=0.1)
