"""From a case to a light: with a toy prior whose quality.json was learnt on toys, good and spoilt."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

import toys
from nisf.correction.stroke import Stroke
from nisf.data.case import Case, slices_of_volume
from nisf.errors import BadFileError
from nisf.evaluation.scores import label_volume
from nisf.io.subject_file import write_subject
from nisf.kinds.load import read_subject
from nisf.prior.fit import fit
from nisf.quality.judge import STILL, examine, frames_to_judge, judge
from nisf.quality.judgement import Judgement, kept_judgement, with_judgement
from nisf.quality.learning import Example, learn
from nisf.quality.model import to_json
from nisf.quality.sampling import detail, keep_answers, places_of, sample_frame, stripes, zigzag


def with_images(case: Case, change) -> Case:
    """The case with ``change`` done to its image (x, y, z, t, c)."""
    grid = case.stacks[0].grid
    image = change(toys.image_of(case))
    return replace(case, slices=slices_of_volume(image, toys.label_of(case), grid))


def noisy(case: Case, sigma: float, seed: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    return with_images(case, lambda image: image + 1000 * sigma * rng.standard_normal(image.shape))


def examples_of(case: Case, prior, *, good: bool) -> list[Example]:
    subject = fit(case, prior)
    places, truth, found = places_of(subject), label_volume(case), []
    for one in examine(subject, case):
        slices = range(truth.shape[2])
        label = np.stack([places.of_image(truth[:, :, z, one.frame]) for z in slices], axis=-1)
        dice = [toys.dice(one.sample.label, label, k) for k in (1, 2)]
        found.append(Example(case.name, good, True, one.signs, one.sample.signature, np.array(dice)))
    return found


@pytest.fixture(scope="module")
def judged_prior(toy_image_prior):
    """The toy prior with a quality.json, whose finder refuses nothing: spoilt cases are to be judged."""
    config = toy_image_prior.config
    toy_image_prior = replace(
        toy_image_prior, config=replace(config, region=replace(config.region, certain=0.0))
    )
    found = []
    for seed in range(6):
        case = toys.toy_case(seed)
        found += examples_of(case, toy_image_prior, good=True)
        found += examples_of(noisy(case, 0.2 * seed, seed), toy_image_prior, good=False)
    model = learn(found, toy_image_prior.anatomy.labels[1:])
    return replace(
        toy_image_prior, appendices={"quality": {"prior": toy_image_prior.fingerprint, **to_json(model)}}
    )


def test_places_are_measured_pixels_of_the_region(toy_image_prior):
    case = toys.toy_case(3)
    subject = fit(case, toy_image_prior)
    places = places_of(subject, across=12)
    assert max(places.step) > 1
    grid = places.grid
    index = case.stacks[0].grid.affine.inverse(grid.points())
    assert np.allclose(index, index.round(), atol=1e-6)
    inside = subject.region.contains(grid.points().reshape(-1, 3))
    assert inside.mean() > 0.9
    item = case.slices[2]
    i, j = np.round(index[3, 4, 0, :2]).astype(int)
    assert places.of_image(item.image[..., 0])[3, 4] == item.image[i, j, 0]
    assert places.of_image(item.image[..., 0], (1, 0))[3, 4] == item.image[i + 1, j, 0]


@pytest.mark.parametrize("strokes", [False, True])
def test_answers_of_a_rendering_are_not_asked_again(toy_image_prior, monkeypatch, strokes):
    case = toys.toy_case(3)
    config = replace(toy_image_prior.config.fit, islands="remove")
    subjects = [fit(case, toy_image_prior, config=config) for _ in range(2)]
    if strokes:
        middle = tuple(map(float, subjects[0].region.centre()))
        stroke = Stroke((middle,), 0.0, "muscle", radius_mm=9.0)
        subjects = [replace(subject, strokes=(stroke,)) for subject in subjects]
    subject, questions = subjects[1], []
    asked = examine(subjects[0], case)
    keep_answers(subject)
    subject.render()
    answers = subject.island_map.answers
    answer = type(answers).answer

    def counted(self, position, time, *, memory_mb):
        questions.append(len(position))
        return answer(self, position, time, memory_mb=memory_mb)

    monkeypatch.setattr(type(answers), "answer", counted)
    found = examine(subject, case)
    assert not questions
    for one, other in zip(found, asked, strict=True):
        np.testing.assert_array_equal(one.sample.raw, other.sample.raw)
        np.testing.assert_array_equal(one.sample.label, other.sample.label)
        np.testing.assert_allclose(one.sample.probability, other.sample.probability, atol=1e-5)
        np.testing.assert_allclose(one.sample.predicted, other.sample.predicted, atol=1e-5)
        assert one.signs == pytest.approx(other.signs, rel=1e-3, abs=1e-4, nan_ok=True)
    # At other pixels nothing was kept.
    sample_frame(subject, case, 0, places_of(subject, across=7))
    assert questions


def test_answers_are_kept_only_where_there_is_room(toy_image_prior, monkeypatch):
    subject = fit(toys.toy_case(3), toy_image_prior)
    monkeypatch.setattr("nisf.quality.sampling.KEPT_BYTES", 1000)
    keep_answers(subject)
    assert subject.island_map.kept is None


def test_detail_is_the_width_of_a_blur(toy_image_prior):
    case = toys.toy_case(6, toys.toy_grid((64, 64, 4), spacing=(1.0, 1.0, 10.0)), noise=0.0)
    places = places_of(fit(case, toy_image_prior))
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((64, 64, 1))

    def found(sigma):
        image = ndimage.gaussian_filter(noise, (sigma, sigma, 0)) if sigma else noise
        return detail([replace(case.slices[0], image=image)], places)

    sharp, soft, softer = (found(sigma) for sigma in (0, 2, 4))
    assert sharp < 1
    assert softer == pytest.approx(2 * soft, rel=0.15)
    assert detail([replace(case.slices[0], image=7 * noise + 100)], places) == pytest.approx(sharp)
    assert np.isnan(detail([replace(case.slices[0], image=0 * noise)], places))


@pytest.mark.parametrize("axis", [0, 1])
def test_rows_that_change_places_in_pairs_zigzag(toy_image_prior, axis):
    case = toys.toy_case(6, toys.toy_grid((64, 64, 4), spacing=(1.0, 1.0, 10.0)))
    places = places_of(fit(case, toy_image_prior))
    noise = np.random.default_rng(0).normal(size=case.slices[1].image.shape).astype(np.float32)
    smooth = ndimage.gaussian_filter(noise, (1.0, 1.0, 0.0))

    def found(image):
        return zigzag([replace(case.slices[1], image=image)], places)

    swapped = smooth.swapaxes(0, axis).reshape(32, 2, 64, 1)[:, ::-1].reshape(64, 64, 1).swapaxes(0, axis)
    assert found(smooth) < 0.1
    assert found(noise) < 0.15
    assert found(swapped) > 0.5
    assert found(7 * swapped + 100) == pytest.approx(found(swapped), rel=1e-3)
    assert np.isnan(found(0 * noise))


@pytest.mark.parametrize("axis", [0, 1])
def test_rows_that_are_missing_are_stripes(toy_image_prior, axis):
    case = toys.toy_case(6, toys.toy_grid((64, 64, 4), spacing=(1.0, 1.0, 10.0)))
    places = places_of(fit(case, toy_image_prior))

    def found(change):
        image = change(case.slices[1].image.swapaxes(0, axis).copy()).swapaxes(0, axis)
        return stripes([replace(case.slices[1], image=image)], places)

    def without(every):
        def change(image):
            image[::every] = 0
            return image

        return change

    clean = found(lambda image: image)
    assert found(lambda image: 3 * image + 100) == pytest.approx(clean)
    assert clean < 0.1
    assert found(without(2)) > 1
    assert found(without(8)) > 0.2
    assert np.isnan(found(np.zeros_like))


def test_a_sample_is_what_the_subject_answers(toy_image_prior):
    case = toys.toy_case(4)
    subject = fit(case, toy_image_prior)
    (one, _), places = examine(subject, case), places_of(subject)
    asked = subject.query(places.grid.points(), float(places.grid.times[0]))[1]
    assert (one.sample.label == asked.argmax(-1)).mean() > 0.98  # islands are found on another grid
    assert len(one.sample.signature) == toy_image_prior.config.image.latent
    assert np.isfinite(one.sample.measured).all()


def test_labels_are_not_looked_at(judged_prior):
    case = toys.toy_case(31)
    bare = replace(case, slices=tuple(replace(s, label=None) for s in case.slices))
    assert judge(fit(case, judged_prior), case) == judge(fit(bare, judged_prior), bare)


def test_good_and_bad(judged_prior):
    case = toys.toy_case(30)
    good = judge(fit(case, judged_prior), case)
    assert set(good.predicted_dice) == {"blood", "muscle"}
    for spoilt in (noisy(case, 0.9), with_images(case, lambda image: 1000 - image)):
        bad = judge(fit(spoilt, judged_prior), spoilt)
        assert bad.light == "red"
        assert bad.reasons
        assert bad.mean < good.mean


def test_equal_images_at_both_times_are_red(judged_prior):
    """The volumes are right, the ejection fraction of 0 is not."""
    phases = {"by": "blood", "largest": "ED", "smallest": "ES"}
    beating = replace(judged_prior, anatomy=replace(judged_prior.anatomy, phases=phases))
    case = toys.toy_case(30, toys.toy_grid(frames=3))
    subject = fit(case, beating)
    assert STILL not in judge(subject, case).reasons
    first = {s.position: s.image for s in case.slices if s.frame == 0}
    still = replace(case, slices=tuple(replace(s, image=first[s.position]) for s in case.slices))
    for labels in (None, subject.render().label):
        found = judge(subject, still, labels=labels)
        assert found.light == "red"
        assert found.reasons[0] == STILL
    whole = np.repeat(subject.render().label[..., :1], 3, axis=-1)  # as large at all times of a cine
    assert judge(subject, still, labels=whole).reasons[0] == STILL
    steady = judge(subject, case, labels=whole)  # the images differ
    assert steady.light == "red"
    assert steady.reasons[0] == "the volume of the blood is the same at all times"
    alone = replace(case, slices=tuple(s for s in case.slices if s.frame == 0))
    assert STILL not in judge(subject, alone).reasons


def test_frames_that_were_not_measured_are_no_standstill(judged_prior):
    """Nor is one frame that is nearest to both phases."""
    phases = {"by": "blood", "largest": "ED", "smallest": "ES"}
    beating = replace(judged_prior, anatomy=replace(judged_prior.anatomy, phases=phases))
    whole = toys.toy_case(30, toys.toy_grid(frames=6))
    case = replace(whole, slices=tuple(s for s in whole.slices if s.frame % 2 == 0))
    subject = fit(case, beating)
    labels = np.zeros_like(subject.render().label)
    for frame, side in enumerate((4, 9, 5, 2, 6, 5)):  # largest and smallest where nothing was measured
        labels[:side, :side, 2, frame] = 1
    found = judge(subject, case, labels=labels)
    assert STILL not in found.reasons
    assert [one.frame for one in examine(subject, replace(case, phases={"ED": 0.2, "ES": 0.8}))] == [2, 4]
    close = replace(case, phases={"ED": 0.3, "ES": 0.4})  # both nearest to the third frame
    assert len({one.frame for one in examine(subject, close)}) == 2
    assert STILL not in judge(subject, close).reasons


def test_no_light_without_an_appendix(toy_image_prior):
    case = toys.toy_case(32)
    assert judge(fit(case, toy_image_prior), case) is None


def test_a_damaged_appendix(toy_image_prior):
    prior = replace(toy_image_prior, appendices={"quality": {"prior": toy_image_prior.fingerprint}})
    case = toys.toy_case(32)
    with pytest.raises(BadFileError, match=r"quality\.json"):
        judge(fit(case, prior), case)


def test_a_judgement_survives_in_the_subjects_file(judged_prior, tmp_path):
    case = toys.toy_case(33)
    subject = fit(case, judged_prior)
    assert kept_judgement(subject) is None
    said = Judgement("amber", {"blood": 0.8, "muscle": 0.7}, 0.75, ("slices are missing",))
    saved = judged_prior.save(tmp_path / "prior")
    write_subject(tmp_path / "case.nisf", with_judgement(replace(subject, prior=saved), said))
    assert kept_judgement(read_subject(tmp_path / "case.nisf", saved)) == said
    assert with_judgement(subject, None) is subject
    assert said.words() == "amber, predicted Dice 0.75: slices are missing"


def test_a_summary_that_cannot_be_read_says_nothing(toy_fitted):
    for quality in (
        None,
        3,
        {"light": "blue"},
        {"light": "red", "predicted_dice": [], "mean": 1, "reasons": []},
    ):
        assert kept_judgement(replace(toy_fitted, summary={"quality": quality})) is None


def test_frames_of_a_cine(toy_image_prior):
    case = toys.toy_case(5, toys.toy_grid(frames=8))
    assert frames_to_judge(case, toys.ANATOMY) == [0, 4]
    named = replace(toys.ANATOMY, phases={"by": "blood", "largest": "ED", "smallest": "ES"})
    assert frames_to_judge(replace(case, phases={"ED": 0.125, "ES": 0.5}), named) == [1, 4]
    subject = fit(case, toy_image_prior)
    assert [one.frame for one in examine(subject, case, [2, 3])] == [2, 3]


def test_a_latent_prior_is_examined_too(toy_fitted):
    case = toys.toy_case(99)
    short = replace(toy_fitted.prior, config=toys.settings(toys.CONFIG, fit={"steps": 2}))
    first = examine(replace(toy_fitted, prior=short), case, [0])[0]
    assert first.sample.signature is None
    assert "given" in first.signs
