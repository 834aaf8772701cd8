"""Signs are read from what is there: each sees its own fault, and nothing breaks where there is nothing."""

from dataclasses import replace

import numpy as np
import pytest

from nisf.quality.families import FAMILIES, family, words
from nisf.quality.sampling import FrameSample
from nisf.quality.signs import between_frames, of_frame

NAMES = ("blood", "muscle")
PIXEL = np.array([2.0, 2.0])


def ring_sample(slices=8):
    """A blood pool in a ring of muscle in all slices but the outer two, seen without doubt."""
    x, y = np.indices((32, 32)) - 15.5
    distance = np.hypot(x, y)
    disc = np.where(distance < 6, 1, np.where(distance < 10, 2, 0)).astype(np.uint8)
    label = np.repeat(disc[:, :, None], slices, axis=2)
    label[:, :, [0, -1]] = 0
    rng = np.random.default_rng(0)
    image = np.choose(label, [0.1, 0.9, 0.4]) + 0.02 * rng.standard_normal(label.shape)
    image = image.clip(0, 1).astype(np.float32)
    probability = np.eye(3, dtype=np.float32)[label]
    edge = np.zeros((32, 32), dtype=bool)
    edge[[0, -1]] = edge[:, [0, -1]] = True
    return FrameSample(
        spacing=np.array([2.0, 2.0, 10.0]),
        measured=image,
        neighbour=np.stack([np.roll(image, -1, 0), np.roll(image, -1, 1)]),
        predicted=image,
        probability=probability,
        raw=label,
        label=label,
        edge=edge,
        detail_mm=2.0,
        stripes=0.01,
        zigzag=0.1,
        signature=None,
    )


@pytest.fixture
def perfect():
    return ring_sample()


def test_a_perfect_heart(perfect):
    signs = of_frame(perfect, NAMES, PIXEL)
    assert all(name.split("/")[0] in FAMILIES for name in signs)
    assert all(np.isfinite(value) for value in signs.values())
    assert signs["sure/blood"] == signs["section/muscle"] == 1
    assert signs["given"] == pytest.approx(1)
    assert signs["contact/blood/muscle"] == 1
    assert signs["parts/blood"] == signs["cut"] == signs["blank"] == 0
    pixels = int((perfect.label == 1).sum())
    assert np.exp(signs["volume/blood"]) == pytest.approx(pixels * 0.04)  # 2 x 2 x 10 mm
    assert np.exp(signs["length/blood"]) == pytest.approx(60)
    assert signs["crooked/blood"] == pytest.approx(0)
    assert signs["distance"] == pytest.approx(np.log(10))


def test_doubt(perfect):
    unsure = 0.6 * perfect.probability + 0.4 / 3
    signs = of_frame(replace(perfect, probability=unsure), NAMES, PIXEL)
    assert signs["sure/blood"] < 0.9
    assert signs["unsure"] > 0.2


def test_a_shuffled_stack_is_crooked_and_out_of_order():
    sample = ring_sample(10)
    steps = range(0, 20, 2)
    drifting = np.stack([np.roll(sample.label[:, :, 4], (n - 9) // 2, 0) for n in steps], axis=2)
    image = np.choose(drifting, [0.1, 0.9, 0.4]).astype(np.float32)
    order = [5, 0, 8, 2, 9, 4, 1, 7, 3, 6]

    def signs(label, image):
        return of_frame(replace(sample, label=label, raw=label, measured=image), NAMES, PIXEL)

    straight, shuffled = signs(drifting, image), signs(drifting[:, :, order], image[:, :, order])
    assert straight["crooked/blood"] < 0.05 < 0.5 < shuffled["crooked/blood"]
    assert straight["order"] > 0.05 > shuffled["order"]
    assert straight["follow"] > shuffled["follow"]


def test_an_open_ring_and_two_parts(perfect):
    label = perfect.label.copy()
    label[:16][label[:16] == 2] = 0
    label[1:3, 1:3, 4] = 1
    signs = of_frame(replace(perfect, label=label, raw=label), NAMES, PIXEL)
    assert signs["contact/blood/muscle"] < 0.7
    assert signs["parts/blood"] == pytest.approx(4 / (label == 1).sum())


def test_a_heart_at_the_border(perfect):
    moved = np.roll(perfect.label, 12, axis=0)
    assert of_frame(replace(perfect, label=moved), NAMES, PIXEL)["cut"] > 0.5


def test_an_image_that_the_field_does_not_reproduce(perfect):
    rng = np.random.default_rng(1)
    wrong = replace(perfect, predicted=rng.random(perfect.predicted.shape, dtype=np.float32))
    assert abs(of_frame(wrong, NAMES, PIXEL)["given"]) < 0.1


def test_nothing_found_and_nothing_measured(perfect):
    nothing = np.zeros_like(perfect.label)
    signs = of_frame(replace(perfect, label=nothing, raw=nothing), NAMES, PIXEL)
    assert np.exp(signs["volume/blood"]) < 0.01
    assert "width/blood" not in signs
    blank = np.full_like(perfect.measured, np.nan)
    unseen = replace(perfect, measured=blank, neighbour=np.stack([blank, blank]))
    signs = of_frame(unseen, NAMES, PIXEL)
    assert all(np.isfinite(value) for value in signs.values())
    assert signs["blank"] == 1


def test_an_image_of_one_value_has_no_stripes(perfect):
    assert of_frame(perfect, NAMES, PIXEL)["stripes"] == 0.01
    assert "stripes" not in of_frame(replace(perfect, stripes=float("nan")), NAMES, PIXEL)
    assert of_frame(perfect, NAMES, PIXEL)["zigzag"] == 0.1
    assert "zigzag" not in of_frame(replace(perfect, zigzag=float("nan")), NAMES, PIXEL)


def test_between_frames(perfect):
    larger = of_frame(perfect, NAMES, PIXEL)
    smaller = {**larger, "volume/blood": larger["volume/blood"] - np.log(2)}
    signs = between_frames(larger, smaller, NAMES)
    assert signs["beat/blood"] == pytest.approx(np.log(2))
    assert signs["beat/muscle"] == 0
    assert signs["stroke/blood/muscle"] > 0


def test_every_sign_has_words_for_its_bad_sides():
    for name, found in FAMILIES.items():
        assert found.low or found.bad == "high"
        assert found.high or found.bad == "low"
        assert "{" not in words(f"{name}/blood/muscle", high=found.bad != "low")
    assert family("volume/blood").bad == "both"
