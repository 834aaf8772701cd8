"""Subjects of every kind follow strokes: there, around, and nowhere else; undone and stored to the bit."""

import time

import numpy as np
import pytest

import toys
from nisf.correction.stroke import Stroke
from nisf.data.geometry import Affine, Grid
from nisf.data.region import Region
from nisf.errors import BadFileError, BadSettingError
from nisf.io.subject_file import write_subject
from nisf.kinds.image import correction
from nisf.kinds.load import read_subject
from nisf.measures.case import measure
from nisf.prior.fit import fit


@pytest.fixture(scope="module", params=["toy_prior", "toy_image_prior"])
def subject(request):
    return fit(toys.toy_case(99), request.getfixturevalue(request.param))


def stroke_at(subject, label="muscle", frame=0, **options):
    """Across the middle of what the subject calls blood."""
    grid = subject.stacks[0].grid
    x, y, z = (n // 2 for n in grid.shape)
    line = grid.affine(np.array([[x - 1, y, z], [x + 2, y, z]]))
    return Stroke(tuple(map(tuple, line.tolist())), float(grid.times[frame]), label, **options)


def test_the_stroke_is_followed_where_it_lies(subject):
    stroke = stroke_at(subject)
    new = subject.corrected([stroke])
    line = stroke.along(1.0, 50)
    before, after = (s.query(line, stroke.time)[1] for s in (subject, new))
    assert (before.argmax(1) == 1).all()
    np.testing.assert_array_equal(after.argmax(1), 2)
    grid = Grid.plane(line[3], (0.2, 0.3, 1.0), size_mm=(40, 40), spacing_mm=1.0, times=[stroke.time])
    covered = stroke.voxels(grid)
    assert len(covered)
    np.testing.assert_array_equal(new.render(grid).label.reshape(-1)[covered], 2)


def test_not_this_class(subject):
    stroke = stroke_at(subject, "blood", present=False)
    line = stroke.along(1.0, 50)
    assert (subject.corrected([stroke]).query(line, stroke.time)[1].argmax(1) != 1).all()


def test_it_spreads_beyond_what_is_painted(subject):
    stroke = stroke_at(subject)
    place = stroke.along(1.0, 50) + np.array([0.0, 3.5, 0.0])
    assert not stroke.covers(place).any()
    before, after = (
        s.query(place, stroke.time)[1][:, 2].mean() for s in (subject, subject.corrected([stroke]))
    )
    assert after > before + 0.02


def test_undone_and_redone_to_the_bit(subject):
    stroke, more = stroke_at(subject), stroke_at(subject, "background", frame=1)
    first = subject.render(probabilities=True).probability
    one = subject.corrected([stroke])
    both = one.corrected([stroke, more])
    again = both.corrected([stroke])
    np.testing.assert_array_equal(
        one.render(probabilities=True).probability, again.render(probabilities=True).probability
    )
    np.testing.assert_array_equal(again.corrected([]).render(probabilities=True).probability, first)
    assert (one.render(probabilities=True).probability != first).any()


def test_the_file_keeps_the_strokes(subject, tmp_path):
    new = subject.corrected([stroke_at(subject), stroke_at(subject, "blood", frame=1, present=False)])
    write_subject(tmp_path / "a.nisf", new)
    again = read_subject(tmp_path / "a.nisf", subject.prior)
    assert again.strokes == new.strokes
    for name in ("label", "probability", "image"):
        values = (getattr(s.render(probabilities=True), name) for s in (new, again))
        np.testing.assert_array_equal(*values)
    write_subject(tmp_path / "b.nisf", again.corrected([]))
    back = read_subject(tmp_path / "b.nisf", subject.prior)
    np.testing.assert_array_equal(back.render().label, subject.render().label)


def test_measures_follow(subject):
    new = subject.corrected([stroke_at(subject, radius_mm=10.0)])
    before, after = (measure(s).curve for s in (subject, new))
    assert (before.ml["muscle"] < after.ml["muscle"]).any()


def test_a_hostile_record_is_refused(subject, tmp_path):
    new = subject.corrected([stroke_at(subject)])
    object.__setattr__(new.strokes[0], "label", "bone")
    write_subject(tmp_path / "a.nisf", new)
    with pytest.raises(BadFileError, match=r"a\.nisf: stroke 1: no class is called 'bone'"):
        read_subject(tmp_path / "a.nisf", subject.prior)


def test_strokes_elsewhere_are_refused(subject):
    with pytest.raises(BadSettingError, match="stroke 2: outside the region that toy99"):
        subject.corrected([stroke_at(subject), Stroke(((900.0, 0.0, 0.0),), 0.0, "blood")])
    with pytest.raises(BadSettingError, match="stroke 1: no class is called 'bone'"):
        subject.corrected([stroke_at(subject, "bone")])


def test_strokes_reach_no_farther_than_the_region_is_large():
    heart, hippocampus = (
        Region(Affine(np.eye(4)), np.array([half, half, 0.8 * half])) for half in (76.5, 33.5)
    )
    assert correction.reach_in(heart) == 40
    assert correction.reach_in(hippocampus) == pytest.approx(17.8, abs=0.1)


def test_features_beyond_the_reach_stay_to_the_bit(toy_image_prior, monkeypatch):
    monkeypatch.setattr(correction, "REACH_MM", 15.0)
    subject = fit(toys.toy_case(98), toy_image_prior)
    stroke = stroke_at(subject)
    new = subject.corrected([stroke])
    assert new.scenes is not subject.scenes
    for phase in range(2):
        old, now = subject.scenes.at(phase), new.scenes.at(phase)
        place = correction.pixel_places(old.maps, old.features.shape[1]).numpy()
        on_line = subject.region.pose(stroke.along(0.5, 200))
        away = np.linalg.norm(place[..., None, :] - on_line, axis=-1).min(-1)
        changed = (old.features != now.features).any(-1).numpy()
        # Anchors lie on the nearest slices, up to half a slice's distance from the line.
        assert not changed[away > 15.0 + 5.01].any()
        assert changed[away < 5.0].any()
        assert old.latent is now.latent or (old.latent == now.latent).all()


def test_slices_are_encoded_once(toy_image_prior):
    subject = fit(toys.toy_case(97), toy_image_prior)
    subject.render()
    new = subject.corrected([stroke_at(subject)])
    assert new.scenes._phases is subject.scenes._phases
    assert new.corrected([]).scenes is subject.scenes


def test_correcting_costs_no_more_than_some_renderings(toy_image_prior):
    subject = fit(toys.toy_case(96), toy_image_prior)
    fine = subject.stacks[0].grid.at_spacing((1.0, 1.0, 5.0))

    def seconds(run):
        began = time.process_time()
        run()
        return time.process_time() - began

    subject.render()
    whole = min(seconds(lambda: subject.render(fine)) for _ in range(2))
    new = subject.corrected([stroke_at(subject)])
    assert seconds(lambda: new.field_answers) < 5 * whole
