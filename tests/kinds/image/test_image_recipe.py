import copy
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

import nisf.training.search
import toys
from nisf.config.schema import ImageConfig
from nisf.data.hiding import hide
from nisf.data.outline import box_of, outlines_of
from nisf.errors import BadSettingError, NisfError
from nisf.files import read_tensors, write_tensors
from nisf.io.subject_file import write_subject
from nisf.kinds.image.augment import draw_sample, phase_stacks
from nisf.kinds.image.objective import image_objective
from nisf.kinds.image.recipe import narrow_canvas
from nisf.kinds.image.samples import Sampler
from nisf.kinds.load import load_prior, read_subject
from nisf.networks.encoder_inference import FrozenEncoder
from nisf.networks.image_field import ImageField
from nisf.prior.fit import fit

pytestmark = pytest.mark.usefixtures("light")
BRIEF = toys.settings(toys.IMAGE, train={"steps": 12, "checkpoint_every": 4}, region={"finder_steps": 5})


@pytest.fixture(scope="module")
def fitted(toy_image_prior):
    return fit(toys.toy_case(99), toy_image_prior)


def scores(fitted, case):
    label = fitted.render(fitted.stacks[0].grid).label
    return [toys.dice(label, toys.label_of(case), k) for k in (1, 2)]


def test_segments_what_it_has_not_seen(fitted):
    assert min(scores(fitted, toys.toy_case(99))) > 0.75
    assert fitted.summary["steps"] == 0


def test_hidden_slices(toy_image_prior):
    case = toys.toy_case(99)
    seen, hidden = hide(case, "every-2nd-slice")
    label = fit(seen, toy_image_prior).render().label
    truth = toys.label_of(case)
    positions = sorted({s.position for s in hidden.slices})
    assert toys.dice(label[:, :, positions], truth[:, :, positions], 1) > 0.5


@pytest.mark.parametrize("change", ["reversed", "turned", "mirrored", "brighter"])
def test_indifferent_to_how_the_file_shows_it(toy_image_prior, fitted, change):
    axes = {"reversed": np.diag([1.0, 1.0, -1.0]), "mirrored": np.diag([-1.0, 1.0, 1.0])}.get(change)
    if change == "turned":
        axes = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    from dataclasses import replace

    case = toys.toy_case(99, toys.toy_grid(axes=axes))
    if change == "brighter":
        stack = replace(case.stacks[0], intensity_range=7 * case.stacks[0].intensity_range + 30)
        slices = tuple(replace(s, image=7 * s.image + 30) for s in case.slices)
        case = replace(case, stacks=(stack,), slices=slices)
    found = scores(fit(case, toy_image_prior), case)
    np.testing.assert_allclose(found, scores(fitted, toys.toy_case(99)), atol=0.06)


def test_file_round_trip(fitted, toy_image_prior, tmp_path):
    write_subject(tmp_path / "a.nisf", fitted)
    again = read_subject(tmp_path / "a.nisf", toy_image_prior)
    a, b = again.render(probabilities=True), fitted.render(probabilities=True)
    np.testing.assert_array_equal(a.probability, b.probability)
    np.testing.assert_array_equal(a.image, b.image)


def test_prior_round_trip(toy_image_prior):
    again = load_prior(toy_image_prior.folder)
    assert again.fingerprint == toy_image_prior.fingerprint
    assert again.config == toy_image_prior.config
    for a, b in zip(
        again.field.state_dict().values(), toy_image_prior.field.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)


def test_canvases_become_fine_by_the_place_in_the_schedule(tmp_path, monkeypatch):
    """Not by the step: under a time limit, the last steps are never done."""
    brief = toys.settings(BRIEF, augment={"coarse": 0.5, "coarse_pixels": 16})
    assert brief.image.pixels != 16
    drawn, sample = [], Sampler.__call__

    def noted(self, step, image):
        drawn.append((step, image.pixels))
        return sample(self, step, image)

    monkeypatch.setattr(Sampler, "__call__", noted)
    monkeypatch.setattr("nisf.optimisation.loop._place", lambda _, step, __: 3 * step)
    toys.train_toy(tmp_path / "a", brief)
    assert drawn == [(0, 16), (1, 16), (2, brief.image.pixels), (3, brief.image.pixels)]


@pytest.mark.parametrize("optimiser", ["adam", "muon"])
def test_resumed_is_undisturbed(optimiser, tmp_path, monkeypatch):
    """And needs no other finder: the checkpoint has it."""
    brief = toys.settings(BRIEF, train={"optimiser": optimiser})
    whole = toys.train_toy(tmp_path / "a", brief)

    class KilledError(Exception):
        pass

    def kill(record):
        if record["step"] >= 10:
            raise KilledError

    with pytest.raises(KilledError):
        toys.train_toy(tmp_path / "b", brief, report=kill)
    train_finder = nisf.training.search.train_finder
    monkeypatch.setattr(nisf.training.search, "train_finder", None)
    again = toys.train_toy(tmp_path / "b", brief, resume=True)
    assert again.fingerprint == whole.fingerprint
    np.testing.assert_array_equal(again.half, whole.half)
    for name, tensor in whole.finder.state_dict().items():
        assert torch.equal(again.finder.state_dict()[name], tensor), name
    assert again.card == whole.card

    checkpoint = tmp_path / "b" / "checkpoint.safetensors"
    tensors, metadata = read_tensors(checkpoint)
    for missing in ("region.half", "finder.head.bias"):
        write_tensors(checkpoint, {n: t for n, t in tensors.items() if n != missing}, metadata)
        with pytest.raises(NisfError, match=f"tensor '{missing}' is missing"):
            toys.train_toy(tmp_path / "b", brief, resume=True)
    # Checkpoints were written without it once: then it is trained again.
    monkeypatch.setattr(nisf.training.search, "train_finder", train_finder)
    without = {n: t for n, t in tensors.items() if not n.startswith(("region.", "finder."))}
    write_tensors(checkpoint, without, metadata)
    assert toys.train_toy(tmp_path / "b", brief, resume=True).fingerprint == whole.fingerprint


@pytest.mark.parametrize("exchange", [0, 2])
def test_half_precision_is_about_the_same(exchange):
    """Loss and gradient."""
    torch.manual_seed(0)
    config = toys.settings(toys.IMAGE, image={"slice_exchange": exchange})
    field = ImageField(config.field, config.image)
    for part in field.encoder.exchange:
        torch.nn.init.normal_(part.into.weight, std=0.1)
    case = toys.toy_case(3)
    stack = phase_stacks(case, case.stacks[0].grid.centre(), config.image.pixel_mm)[0]
    sample = draw_sample(stack, config.image, config.augment, 400, np.random.default_rng(0))
    found = []
    for precision in ("fp32", "bf16"):
        field.zero_grad()
        loss, _ = image_objective(field, [sample], replace(config.train, precision=precision))
        assert loss.dtype == torch.float32
        loss.backward()
        found.append((loss.item(), torch.cat([w.grad.flatten() for w in field.parameters()])))
    (full, gradient), (half, other) = found
    assert half == pytest.approx(full, rel=0.01)
    assert half != full
    assert torch.cosine_similarity(gradient, other, dim=0) > 0.95


def test_validation_is_logged(tmp_path):
    found = toys.train_toy(tmp_path, BRIEF).card["validation"]
    assert list(found["dice"]) == ["blood", "muscle"]
    for by_part in found["dice"].values():
        assert list(by_part) == ["given", "hidden"]
        assert all(0 <= value <= 1 for value in by_part.values())
    records = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [r["validation"] for r in records if "validation" in r] == [found]


def test_canvases_that_do_not_hold_the_structures_are_mentioned(toy_cohort):
    outlines = outlines_of(toy_cohort, order=True)
    width = 2 * float(box_of(outlines, 0.0)[0])
    assert narrow_canvas(outlines, ImageConfig(pixels=32, pixel_mm=width / 32 + 0.01)) == ""
    said = narrow_canvas(outlines, ImageConfig(pixels=32, pixel_mm=width / 64))
    assert f"up to {width:.0f} mm wide" in said
    assert f"cover {width / 2:.0f} mm" in said
    unlabelled = outlines_of([toys.toy_case(0, labelled=False)], order=True)
    assert narrow_canvas(unlabelled, ImageConfig()) == ""


def test_needs_labels_and_slices(tmp_path):
    unlabelled = [toys.toy_case(0, labelled=False)]
    with pytest.raises(NisfError, match="no slice is labelled"):
        toys.train_toy(tmp_path, BRIEF, unlabelled, [])


def test_a_cine_is_encoded_once(toy_image_prior, monkeypatch):
    """Each phase, whatever the number of slices, with islands removed and answers averaged over time."""
    grid = toys.toy_grid(frames=8)
    fitted = replace(fit(toys.toy_case(99, grid), toy_image_prior), islands="remove")
    field = toy_image_prior.field
    encode, seen = FrozenEncoder.coarse, []

    def counted(encoder, images, maps, shown=None):
        seen.append(len(images))
        return encode(encoder, images, maps, shown)

    monkeypatch.setattr(FrozenEncoder, "coarse", counted)
    fitted.render()
    assert seen == [6] * 7  # the first was seen when the region was looked at again
    seen.clear()
    monkeypatch.setattr(field, "image", replace(field.image, time_sigma=0.06))
    replace(fitted, encoded=None).render()
    assert seen == [6] * 8  # all are kept until the cycle closes
    seen.clear()
    monkeypatch.setattr("nisf.kinds.image.scenes.KEPT_BYTES", 0)
    replace(fitted, encoded=None).render()
    assert seen == [6] * 10  # the first two again when it closes
    for threads, encoded in ((1, 16), (4, 8)):  # four threads work at neighbouring frames
        seen.clear()
        torch.set_num_threads(threads)
        try:
            scenes = replace(fitted, encoded=None).scenes
        finally:
            torch.set_num_threads(1)
        for phase in (0, 3, 1, 2, 4, 7, 5, 6):
            scenes.at(phase)
        assert seen == [6] * encoded
    seen.clear()
    monkeypatch.setattr(field, "image", replace(field.image, time_sigma=0.2))
    replace(fitted, encoded=None).render()
    assert seen == [6] * 8  # an average of seven, all of them kept


def test_a_subject_travels_to_another_process(fitted):
    place = fitted.region.centre() + np.array([[0.0, 0, 0], [5, 3, 2]])
    expected = fitted.query(place, 0.25)
    for again in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        for found, wanted in zip(again.query(place, 0.25), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    with pytest.raises(BadSettingError, match="a time is not finite"):
        fitted.query(place, np.nan)
