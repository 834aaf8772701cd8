import numpy as np
import pytest

from nisf.data.case import Stack
from nisf.data.geometry import Affine, Grid
from nisf.data.region import Region
from nisf.measures.case import measure, slice_volumes_ml
from nisf.measures.lattice import Lattice, sample
from nisf.phantom import label, volumes_ml
from true_subjects import hearts, true_heart, true_subject

REGION = Region(Affine(np.eye(4)), np.array([40.0, 40.0, 40.0]))


def stack_of(slices=9, spacing=8.0, **options):
    """A stack along the world's axes, around the origin."""
    first = (-40.0, -40.0, -(slices - 1) / 2 * spacing)
    return Stack("sa", Grid((41, 41, slices), Affine.scaling((2.0, 2.0, spacing), first)), **options)


def ball(radius, centre=(0.0, 0.0, 0.0)):
    def label_at(world, _):
        return (np.linalg.norm(world - np.array(centre), axis=-1) < radius).astype(np.int64)

    return label_at


def test_the_lattice_covers_the_region_and_ends_with_the_slab():
    stack = stack_of(slices=5)
    lattice = Lattice.over(REGION, stack)
    index = np.flatnonzero(lattice.inside)
    places = lattice.places(index)
    assert np.abs(places[:, :2]).max() <= 40.0
    assert np.abs(places[:, 2]).max() <= 2.5 * 8.0
    # Of the right volume, and no corner missing.
    assert len(index) * lattice.node_ml == pytest.approx(0.08 * 0.08 * 0.04 * 1e6, rel=0.01)
    assert np.abs(places).max(0) == pytest.approx([40.0, 40.0, 20.0], abs=2.0)


def test_what_the_field_says_beyond_the_images_does_not_count():
    """A ball of which the images show the half below x = 0; slices cannot count the other half either."""
    whole = stack_of(slices=11)
    grid = Grid((20, 41, 11), whole.grid.affine, whole.grid.times)  # the last pixel ends at x = -1 mm
    half = true_subject(ball(30.0), REGION, Stack("sa", grid))
    (found,) = sample(half.answers, Lattice.over(REGION, half.stacks[0]), 0.0).volumes_ml()[:1]
    cap = np.pi * 29.0**2 * (3 * 30.0 - 29.0) / 3 / 1000
    assert found == pytest.approx(cap, rel=0.01)


@pytest.mark.parametrize("thickness", [0.5, 1.0, 3.0, 8.0])
def test_a_single_slice_has_the_volume_of_its_thickness(thickness):
    """However thin; a coarse cell would contain it without a corner inside."""
    grid = Grid((120, 120, 1), Affine.scaling((1.0, 1.0, thickness), (-59.5, -59.5, 0.0)))
    region = Region(Affine(np.eye(4)), np.array([60.0, 60.0, 50.0]))
    flat = true_subject(ball(20.0), region, Stack("sa", grid))
    found = sample(flat.answers, Lattice.over(region, flat.stacks[0]), 0.0).volumes_ml()[0]
    h = thickness / 2
    assert found == pytest.approx(2 * np.pi * (400 * h - h**3 / 3) / 1000, rel=0.03)


@pytest.mark.parametrize(("ends", "wanted"), [(None, (-0.5, 4.5)), ((1, 3), (0.5, 3.5))])
def test_slab_of_a_stack_with_blank_slices(ends, wanted):
    assert tuple(stack_of(slices=5, ends=ends).bounds[2]) == wanted


@pytest.mark.parametrize(("half", "wanted"), [(35.0, 1.0), (80.0, 2.0), (200.0, 2.0)])
def test_spacing_is_finer_in_small_regions(half, wanted):
    region = Region(Affine(np.eye(4)), np.full(3, half))
    assert Lattice.over(region, None).spacing_mm == pytest.approx(wanted)


@pytest.mark.parametrize("index", range(2))
def test_asking_near_borders_is_as_good_as_asking_everywhere(index):
    heart, scanner = hearts()[index]
    subject = true_heart(heart, scanner=scanner)
    lattice = Lattice.over(subject.region, subject.stacks[0], 3.0)
    found = sample(subject.answers, lattice, 0.1)
    inside = np.flatnonzero(lattice.inside)
    label = np.zeros(lattice.inside.size, dtype=np.uint8)
    answer = subject.answers.answer(lattice.places(inside), np.full(len(inside), 0.1), memory_mb=512.0)
    label[inside] = answer.probability.argmax(1)
    assert len(found.index) < 0.35 * len(inside)
    # A corner of a structure that is thinner than the coarsest cell may be missed.
    assert np.mean(found.label.reshape(-1) != label) < 1e-4
    exact = np.bincount(label, minlength=4)[1:] * lattice.node_ml
    assert found.volumes_ml() == pytest.approx(exact, rel=2e-3)


def test_probabilities_away_from_borders_are_those_of_the_label():
    subject = true_subject(ball(20.0), REGION, stack_of())
    lattice = Lattice.over(REGION, subject.stacks[0])
    found = sample(subject.answers, lattice, 0.0)
    assert np.array_equal(found.chance((1,)), (found.label == 1).astype(np.float32))


@pytest.mark.parametrize("offset", [0.0, 0.7, 1.3])
def test_a_flat_face_along_the_slices_is_no_trouble(offset):
    """Its layer of nodes would be in or out as a whole on a lattice along the slices' axes."""

    def slabs(world, _):
        near = np.abs(world[..., :2]).max(-1) < 25
        return (near & (np.abs(world[..., 2] - offset) < 15)).astype(np.int64)

    subject = true_subject(slabs, REGION, stack_of())
    found = sample(subject.answers, Lattice.over(REGION, subject.stacks[0]), 0.0).volumes_ml()[0]
    assert found == pytest.approx(5.0 * 5.0 * 3.0, rel=0.01)


def slice_areas_ml(heart, grid, time, shift=0.0, pixel_mm=0.8):
    """Summation of slices without `nisf.measures`: true areas in the slices' middle planes, mL."""
    side = np.arange(-85, 85, pixel_mm)
    across = side[:, None, None] * grid.affine.axes[:, 0] + side[None, :, None] * grid.affine.axes[:, 1]
    x, y, _ = grid.affine.inverse(np.asarray(heart.centre_mm))
    middles = grid.affine(np.array([(x, y, k + shift) for k in range(grid.shape[2])]))
    areas = [np.bincount(label(heart, middle + across, time).ravel(), minlength=4) for middle in middles]
    return np.sum(areas, axis=0)[1:] * pixel_mm**2 * grid.spacing[2] / 1000


@pytest.mark.parametrize("index", range(4))
def test_volumes_of_phantoms(index):
    """By integration within 1 % each; see `test_volumes_by_slices_of_phantoms` for the other convention."""
    heart, scanner = hearts()[index]
    times = [0.0, heart.end_systole]
    subject = true_heart(heart, scanner=scanner, times=times)
    lattice = Lattice.over(subject.region, subject.stacks[0])
    lattice_ml = np.stack([sample(subject.answers, lattice, time).volumes_ml() for time in times])
    true_ml = np.array([list(volumes_ml(heart, time).values()) for time in times])
    assert lattice_ml == pytest.approx(true_ml, rel=0.01)


def test_volumes_by_slices_of_phantoms():
    """Within 3 % on average, and as the true areas in the slices add up: what is off is the convention.

    One heart can be off by half a slice of its base, whatever is done; the mean over stacks that are shifted
    along their normal is not.
    """
    errors, ours, shifted = [], [], []
    for heart, scanner in hearts(4):
        subject = true_heart(heart, scanner=scanner)
        grid = subject.stacks[0].grid
        drawn = subject.render(grid.at_times([0.0, heart.end_systole])).label
        found = slice_volumes_ml(drawn, grid, 3)
        for time, ml in zip((0.0, heart.end_systole), found, strict=True):
            true_ml = np.array(list(volumes_ml(heart, time).values()))
            errors.append(ml / true_ml - 1)
            ours.append(ml / slice_areas_ml(heart, grid, time) - 1)
            stacks = [slice_areas_ml(heart, grid, time, shift, 2.0) for shift in np.arange(-5, 5) / 10]
            shifted.append(np.mean(stacks, axis=0) / true_ml - 1)
    assert np.abs(errors).mean() < 0.03
    assert abs(np.mean(errors)) < 0.01
    assert np.abs(ours).mean() < 0.003
    assert np.abs(ours).max() < 0.01
    assert np.abs(shifted).max() < 0.01


def test_both_conventions_end_where_the_stack_ends():
    """A ball that is cut off by both ends of the stack: what was not measured is not counted."""
    subject = true_subject(ball(30.0), REGION, stack_of(slices=5))
    found = measure(subject)
    cut = np.pi * (30.0**2 * 40 - 2 * 20.0**3 / 3) / 1000
    name = subject.prior.anatomy.labels[1]
    assert found.curve.ml[name][0] == pytest.approx(cut, rel=0.01)
    assert found.curve.slices_ml[name][0] == pytest.approx(cut, rel=0.03)


def test_a_structure_that_is_not_there_has_no_volume():
    subject = true_subject(lambda world, _: np.zeros(world.shape[:-1], dtype=np.int64), REGION, stack_of())
    found = measure(subject)
    assert found.curve.ml["RV blood pool"][0] == 0
    assert found.wall is None
    assert found.values["lv_ef_percent"] is None
