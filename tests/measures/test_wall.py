from dataclasses import replace

import numpy as np
import pytest

from nisf.data.arrangement import MIRRORED
from nisf.measures.case import measure
from nisf.measures.wall import _longest_run
from nisf.phantom import Heart, Scanner
from nisf.phantom.heart import shape_at
from true_subjects import hearts, true_heart

SCANNER = Scanner(beyond=2)


def true_thickness(heart, time):
    """Mean distance from the cavity's surface to the outer one in each third of its length, mm (3,)."""
    shape = shape_at(heart, time)
    z = np.linspace(-shape.above, shape.outer_length, 4000)
    outer = np.stack([shape.outer_radius * np.sqrt(np.maximum(0, 1 - (z / shape.outer_length) ** 2)), z])
    levels = np.linspace(-shape.above, shape.length, 203)[1:-1]
    inner = np.stack([shape.radius * np.sqrt(1 - (levels / shape.length) ** 2), levels])
    distance = np.linalg.norm(inner[:, :, None] - outer[:, None, :], axis=0).min(1)
    return np.array([part.mean() for part in np.array_split(distance, 3)])


def means(thickness):
    return np.array([thickness[:6].mean(), thickness[6:12].mean(), thickness[12:16].mean()])


@pytest.mark.parametrize("index", range(4))
def test_thickness_of_phantoms(index):
    heart = hearts()[index][0]
    subject = true_heart(heart, scanner=SCANNER, times=[0.0, heart.end_systole])
    wall = measure(subject).wall
    for phase, time in (("ED", 0.0), ("ES", heart.end_systole)):
        found, wanted = means(wall.thickness_mm[phase]), true_thickness(heart, time)
        assert found[:2] == pytest.approx(wanted[:2], abs=0.3)
        # Rays graze the wall of the apical third.
        assert found[2] == pytest.approx(wanted[2], abs=1.2)
        # The wall is the same all around.
        assert np.ptp(wall.thickness_mm[phase][:12]) < 1.0
        assert wall.thickness_mm[phase][16] == pytest.approx(0.7 * heart.wall_mm, abs=0.8)
    true_percent = 100 * (true_thickness(heart, heart.end_systole) / true_thickness(heart, 0.0) - 1)
    assert means(wall.thickening_percent)[1] == pytest.approx(true_percent[1], abs=4)


def thicker_on_one_side(heart, degrees, **options):
    """A heart whose wall is 6 mm thicker where the angle from the middle of the septum is this one."""
    subject = true_heart(heart, scanner=SCANNER, times=[0.0], said={"phases": {"ED": 0.0}}, **options)
    from nisf.phantom import label
    from nisf.phantom.heart import axes, pose

    apex = axes(heart)[2]
    to_heart = pose(heart)

    def label_at(world, time):
        found = label(heart, world, time)
        local = to_heart(world)
        # From the septum over the inferior wall; the anterior wall is at -90.
        septum, inferior = local[..., 0], -(local @ to_heart.matrix[:3, :3] @ np.cross(axes(heart)[0], apex))
        angle = np.rad2deg(np.arctan2(inferior, septum))
        near = np.abs((angle - degrees + 180) % 360 - 180) < 30
        shape = shape_at(heart, time)
        z = local[..., 2] - shape.middle
        grown = (local[..., :2] ** 2).sum(-1) / (shape.outer_radius + 6) ** 2 + (
            z / shape.outer_length
        ) ** 2 < 1
        found[near & grown & (z >= -shape.above) & (found != 1)] = 2
        return found

    return replace_label(subject, label_at)


def replace_label(subject, label_at):
    own = type("Own", (type(subject),), {"label_at": staticmethod(label_at)})
    return own(
        subject.name,
        subject.prior,
        subject.region,
        subject.stacks,
        subject.summary,
        canvases=subject.canvases,
    )


@pytest.mark.parametrize(("degrees", "segment"), [(-90, 6), (90, 9), (150, 10), (-150, 11)])
@pytest.mark.parametrize("oriented", [True, False])
def test_segments_are_counted_from_the_anterior_wall_over_the_septum(degrees, segment, oriented):
    """As the true world says, and as images seen from the tip show it."""
    heart = Heart(roll_deg=8.0)
    wall = measure(thicker_on_one_side(heart, degrees, oriented=oriented)).wall
    assert wall.thickness_mm["ED"][6:12].argmax() + 6 == segment
    assert wall.names[segment].startswith("mid")


@pytest.mark.parametrize(("oriented", "segment"), [(False, 6), (True, 9)])
def test_a_mirror_image_swaps_anterior_and_inferior_where_the_file_has_no_orientation(oriented, segment):
    subject = thicker_on_one_side(Heart(roll_deg=8.0), 90, oriented=oriented)
    wall = measure(replace(subject, summary={**subject.summary, "turned": MIRRORED})).wall
    assert wall.thickness_mm["ED"][6:12].argmax() + 6 == segment


def test_without_the_structure_beside_there_are_no_segments():
    heart = Heart()
    subject = true_heart(heart, scanner=SCANNER, times=[0.0], said={"phases": {"ED": 0.0}})
    from nisf.phantom import label

    found = measure(
        replace_label(subject, lambda world, t: np.where((k := label(heart, world, t)) == 3, 0, k))
    )
    assert found.wall is None
    assert any(
        note.startswith("no wall thickness by segment: there is no RV blood pool") for note in found.notes
    )


def test_a_tip_beyond_the_slab_is_not_known():
    heart = Heart()
    subject = true_heart(heart, scanner=SCANNER, times=[0.0], said={"phases": {"ED": 0.0}})
    stack = subject.stacks[0]
    # Slices from the base to 70 % of the length.
    shorter = replace(stack, ends=(0, int(0.7 * stack.grid.shape[2])))
    wall = measure(replace(subject, stacks=(shorter,))).wall
    assert np.isnan(wall.thickness_mm["ED"][16])
    assert np.isnan(wall.thickening_percent).all()


@pytest.mark.parametrize(
    ("mask", "wanted"),
    [([0, 1, 1, 0, 1, 0], (1, 2)), ([1, 1, 0, 0, 1, 1], (4, 4)), ([1] * 4, None), ([0] * 4, None)],
)
def test_longest_run(mask, wanted):
    found = _longest_run(np.array(mask, dtype=bool))
    assert (None if found is None else (found[0] % len(mask), found[1])) == wanted
