"""Sections that are not sure enough: found, removed, and how sure they have to be."""

from dataclasses import replace

import numpy as np
import pytest

import toys
from nisf.data.anatomy import load_anatomy
from nisf.errors import BadSettingError
from nisf.io.subject_file import write_subject
from nisf.kinds.image.selection import Answered, least_certainty
from nisf.kinds.load import load_prior, read_subject
from nisf.prior.fit import fit
from nisf.subject.islands import bar_islands, without
from nisf.subject.sections import (
    Enclosure,
    SectionRules,
    certainty,
    doubtful,
    enclosed_part,
    open_at_base,
    section_rules,
)

SHAPE = (20, 18, 5)


@pytest.fixture
def label():
    """A structure in slices 1 to 3, its section in slice 1 at (4..9, 5..10)."""
    out = np.zeros(SHAPE, dtype=np.uint8)
    out[4:10, 5:11, 1:4] = 1
    return out


def shares(label, sure):
    """Probability of the label in each slice as given, the rest background's or, there, class 2's."""
    out = np.zeros((*SHAPE, 3))
    out[label == 0, 0] = 1.0
    for z, p in enumerate(sure):
        inside = label[:, :, z] == 1
        out[:, :, z][inside] = [0.0, p, 1 - p]
    return out.reshape(-1, 3)


def test_certainty_is_that_of_the_surest_tenth():
    assert certainty(np.arange(101) / 100) == pytest.approx(0.9)


def test_all_sections_are_asked_for_together(label):
    asked = []

    def ask(index):
        asked.append(len(index))
        return shares(label, [0, 0.7, 0.81, 0.9, 0])[index]

    doubtful(label, [0.8, 0.9], ask)
    assert asked == [np.count_nonzero(label)]
    doubtful(np.zeros_like(label), [0.8, 0.9], ask)
    assert len(asked) == 1


def test_what_is_doubtful(label):
    found = doubtful(label, [0.8, 0.9], lambda index: shares(label, [0, 0.7, 0.81, 0.9, 0])[index])
    assert found[..., 1].any((0, 1)).tolist() == [False, True, False, False, False]
    x, y = np.nonzero(found[:, :, 1, 1])
    # Half as much again on each side, within the slice.
    assert (x.min(), x.max(), y.min(), y.max()) == (0, 13, 1, 14)
    assert not found[..., [0, 2]].any()


def test_nothing_is_asked_where_all_is_drawn(label):
    def ask(_):
        raise AssertionError

    assert not doubtful(label, [0.0, 0.9], ask).any()


def test_barred_and_replaced_by_the_next_likely(label):
    of = shares(label, [0, 0.7, 0.95, 0.95, 0])
    barred = bar_islands(label, 3, lambda index: of[index], SectionRules((0.9, 0.0)))
    mended = label.copy().reshape(-1)
    mended[barred.index] = without(of[barred.index], barred.structures).argmax(1)
    mended = mended.reshape(SHAPE)
    assert (mended[..., 1][label[..., 1] == 1] == 2).all()
    np.testing.assert_array_equal(mended[..., 2:], label[..., 2:])


def test_what_is_left_is_looked_at_for_islands(label):
    """The middle section is doubtful: what lies beyond it is apart."""
    of = shares(label, [0, 0.95, 0.6, 0.95, 0])
    label[12, 12, 3] = 0
    barred = bar_islands(label, 3, lambda index: of[index], SectionRules((0.9, 0.0)))
    mended = label.copy().reshape(-1)
    mended[barred.index] = without(of[barred.index], barred.structures).argmax(1)
    sections = (mended.reshape(SHAPE) == 1).any((0, 1))
    assert sections.sum() == 1


def volume(present, sure, seed=0):
    """Ten slices of a hundred places; class 1 is drawn in all, and is there where ``present``."""
    label = np.repeat(np.asarray(present, dtype=np.int64), 100)
    p = np.repeat(sure, 100) + np.random.default_rng(seed).uniform(-0.005, 0.005, 1000)
    return Answered(np.stack([1 - p, p], axis=1), label, np.repeat(np.arange(10), 100))


def test_least_certainty_tells_what_is_there():
    present = [0, 0, 1, 1, 1, 1, 1, 1, 1, 1]
    volumes = [volume(present, [0.7, 0.72] + [0.95] * 8, seed) for seed in range(3)]
    (least,) = least_certainty(volumes, 2)
    assert 0.73 <= least <= 0.95


def test_least_certainty_is_nothing_where_it_does_not_help():
    sure = [0.7, 0.72] + [0.95] * 8
    assert least_certainty([volume([1] * 10, sure)], 2) == (0.0,)
    # Doubtful sections are there as often as not.
    volumes = [volume([1, 1] + [1] * 8, sure), volume([0, 1] + [1] * 8, sure)]
    assert least_certainty(volumes, 2) == (0.0,)
    assert least_certainty([], 3) == (0.0, 0.0)


def test_unknown_places_do_not_count():
    present = [-1, -1, 1, 1, 1, 1, 1, 1, 1, 1]
    assert least_certainty([volume(present, [0.7, 0.72] + [0.95] * 8)], 2) == (0.0,)


def test_a_fitted_subject_keeps_to_it(toy_image_prior, tmp_path):
    """Everything is doubtful to a prior that wants to be surer than sure; unless islands are kept."""
    config = toys.settings(toy_image_prior.config, fit={"islands": "remove", "certain": (1.0, 0.0)})
    prior = replace(toy_image_prior, config=config)
    fitted = fit(toys.toy_case(99), prior)
    assert not (fitted.render().label == 1).any()
    assert (fitted.render().label == 2).any()
    write_subject(tmp_path / "a.nisf", fitted)
    again = read_subject(tmp_path / "a.nisf", toy_image_prior)
    np.testing.assert_array_equal(again.render().label, fitted.render().label)
    kept = fit(toys.toy_case(99), prior, config=replace(config.fit, certain=()))
    assert (kept.render().label == 1).any()
    points = fitted.stacks[0].grid.points()
    assert not (fitted.query(points, 0.25)[1].argmax(-1) == 1).any()
    assert (replace(fitted, islands="keep").render().label == 1).any()


def test_training_chooses_it(tmp_path):
    config = toys.settings(
        toys.IMAGE, train={"steps": 6}, fit={"islands": "remove"}, region={"finder_steps": 5}
    )
    said = []
    prior = toys.train_toy(tmp_path, config, say=said.append)
    assert len(prior.config.fit.certain) == 2
    assert any(line.startswith("minimum certainty of a section: ") for line in said)
    assert load_prior(tmp_path).config.fit.certain == prior.config.fit.certain
    without_held = toys.train_toy(tmp_path / "b", config, validation=[])
    assert without_held.config.fit.certain == ()


RING = Enclosure(cavity=1, wall=2, least=0.5)


def ring_stack(parts, sizes=(6, 6, 5, 4, 3)):
    """A cavity in every slice whose rim is wall up to each slice's share of the circle; base first."""
    x, y = np.mgrid[-12:13, -12:13]
    angle, radius = (np.arctan2(y, x) + np.pi) / (2 * np.pi), np.hypot(x, y)
    out = np.zeros((25, 25, len(parts)), dtype=np.uint8)
    for z, (part, size) in enumerate(zip(parts, sizes, strict=True)):
        out[:, :, z][radius <= size] = 1
        out[:, :, z][(radius > size) & (radius <= size + 3) & (angle <= part)] = 2
    return out


@pytest.mark.parametrize("part", [0.2, 0.5, 0.8])
def test_enclosed_part_is_the_rims(part):
    section = ring_stack([part] * 5)[:, :, 0]
    assert enclosed_part(section, RING) == pytest.approx(part, abs=0.06)


@pytest.mark.parametrize("flipped", [False, True])
def test_open_slices_go_from_the_base_inwards(flipped):
    """The valve is in view in slices 0 and 1; slice 3 is open too but not at the base; the apex stays."""
    label = ring_stack([0.2, 0.3, 1.0, 0.4, 0.3])
    label = label[:, :, ::-1] if flipped else label
    barred = np.zeros((*label.shape, 4), dtype=bool)
    open_at_base(label, RING, barred)
    sections = barred.any((0, 1))
    sections = sections[::-1] if flipped else sections
    assert sections.T.tolist() == [
        [False] * 5,
        [True, True, False, False, False],
        [True, True, False, False, False],
        [False] * 5,
    ]
    base = [4, 3] if flipped else [0, 1]
    for k in (1, 2):
        assert barred[:, :, base, k][label[:, :, base] == k].all()


def test_a_wall_that_is_missing_everywhere_is_no_valve():
    label = ring_stack([0.2] * 5)
    barred = np.zeros((*label.shape, 3), dtype=bool)
    open_at_base(label, RING, barred)
    assert not barred.any()
    empty = np.zeros_like(label)
    open_at_base(empty, RING, barred)
    assert not barred.any()


def test_the_anatomy_names_cavity_and_wall(toy_image_prior):
    anatomy = load_anatomy("cardiac-sax")
    assert section_rules(anatomy, (), 0.5).enclosure == Enclosure(1, 2, 0.5)
    assert section_rules(anatomy, (0.0, 0.9), 0.0) == SectionRules((0.0, 0.9), None)
    assert section_rules(toy_image_prior.anatomy, (), 0.5) == SectionRules()
    config = replace(toy_image_prior.config.fit, islands="remove", enclosed=0.5)
    with pytest.raises(BadSettingError, match="declares no wall"):
        fit(toys.toy_case(99), toy_image_prior, config=config)


def test_open_sections_are_barred_with_islands():
    label = ring_stack([0.2, 1.0, 1.0, 1.0, 1.0])
    probability = np.eye(4)[label].reshape(-1, 4)
    barred = bar_islands(label, 4, lambda index: probability[index], SectionRules((), RING))
    mended = label.reshape(-1).copy()
    mended[barred.index] = without(probability[barred.index], barred.structures).argmax(1)
    mended = mended.reshape(label.shape)
    assert not mended[:, :, 0].any()
    np.testing.assert_array_equal(mended[:, :, 1:], label[:, :, 1:])


def test_a_rule_without_islands_is_told(toy_image_prior):
    config = replace(toy_image_prior.config.fit, islands="keep", enclosed=0.5)
    with pytest.raises(BadSettingError, match="removed together with islands only"):
        fit(toys.toy_case(99), toy_image_prior, config=config)
