import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import toys
from checker import unchecked
from nisf.data.case import Stack
from nisf.errors import NisfError
from nisf.files import read_tensors, write_tensors
from nisf.io.subject_file import write_subject
from nisf.kinds.latent.breath_hold import BreathHold
from nisf.kinds.load import read_subject
from nisf.prior.fit import fit


@pytest.fixture
def path(toy_fitted, tmp_path):
    write_subject(tmp_path / "toy.nisf", toy_fitted)
    return tmp_path / "toy.nisf"


def edit(path, change, latent=None):
    tensors, metadata = read_tensors(path)
    data = json.loads(metadata["nisf"])
    change(data)
    latent = tensors["latent"] if latent is None else latent
    write_tensors(path, {"latent": latent}, {"nisf": json.dumps(data)})


def test_round_trip(toy_fitted, path):
    again = read_subject(path, toy_fitted.prior)
    assert again.name == "toy99"
    assert torch.equal(again.latent, toy_fitted.latent)
    assert dict(again.summary) == dict(toy_fitted.summary)
    stack, expected = again.stacks[0], toy_fitted.stacks[0]
    assert (stack.name, stack.oriented, stack.source, stack.cycle_ms) == ("sa", True, None, None)
    assert stack.grid.shape == expected.grid.shape
    np.testing.assert_array_equal(stack.grid.affine.matrix, expected.grid.affine.matrix)
    np.testing.assert_array_equal(stack.grid.times, expected.grid.times)
    np.testing.assert_array_equal(again.region.pose.matrix, toy_fitted.region.pose.matrix)
    a, b = again.render(probabilities=True), toy_fitted.render(probabilities=True)
    np.testing.assert_array_equal(a.probability, b.probability)
    np.testing.assert_array_equal(a.image, b.image)


def test_the_prior_is_found(toy_fitted, path):
    assert read_subject(path, toy_fitted.prior.folder).prior.fingerprint == toy_fitted.prior.fingerprint
    assert torch.equal(read_subject(path).latent, toy_fitted.latent)


def test_all_of_a_stack_is_kept(toy_fitted, tmp_path):
    stack = Stack("la", toys.toy_grid(), False, tmp_path / "la.nii.gz", 845.5, np.array([[3.0, 7.0]]))
    write_subject(tmp_path / "a.nisf", replace(toy_fitted, stacks=(stack,)))
    (found,) = read_subject(tmp_path / "a.nisf", toy_fitted.prior).stacks
    assert (found.name, found.oriented, found.source, found.cycle_ms) == (
        "la",
        False,
        tmp_path / "la.nii.gz",
        845.5,
    )
    np.testing.assert_array_equal(found.intensity_range, [[3, 7]])


def test_another_prior(toy_fitted, path):
    edit(path, lambda d: d["prior"].update(fingerprint="f" * 16))
    with pytest.raises(NisfError, match="was made with prior ffffffffffffffff, not with the one given"):
        read_subject(path, toy_fitted.prior)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format=9), "format 9, but this nisf reads formats 1 to 4"),
        (lambda d: d.pop("format"), "not a subject written by nisf"),
        (lambda d: d.pop("region"), "not a subject written by nisf"),
        (lambda d: d["stacks"][0].pop("affine"), "not a subject written by nisf"),
        (lambda d: d["region"].update(pose=[[1, 0], [0, 1]]), "not a subject written by nisf"),
        (lambda d: d["region"].update(pose=np.zeros((4, 4)).tolist()), "not a subject written by nisf"),
        (lambda d: d["stacks"][0].update(shape=[3, 3]), "not a subject written by nisf"),
        (lambda d: d.update(prior=None), "not a subject written by nisf"),
    ],
)
def test_edited(toy_fitted, path, change, message):
    edit(path, change)
    with unchecked(), pytest.raises(NisfError, match=message):
        read_subject(path, toy_fitted.prior)


@pytest.mark.parametrize("latent", [torch.zeros(3), torch.full((12,), torch.nan)])
def test_wrong_latent(toy_fitted, path, latent):
    edit(path, lambda _: None, latent)
    with pytest.raises(NisfError, match=r"latent of shape .* does not fit"):
        read_subject(path, toy_fitted.prior)


def test_damaged(toy_fitted, path, tmp_path):
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(NisfError, match="not a whole safetensors file"):
        read_subject(path, toy_fitted.prior)
    write_tensors(tmp_path / "other", {"latent": torch.zeros(12)})
    with pytest.raises(NisfError, match="not a subject written by nisf"):
        read_subject(tmp_path / "other", toy_fitted.prior)
    with pytest.raises(NisfError, match="missing"):
        read_subject(tmp_path / "nothing", toy_fitted.prior)


def test_the_posterior_is_kept(toy_fitted, path):
    again = read_subject(path, toy_fitted.prior)
    assert torch.equal(again.covariance, toy_fitted.covariance)
    assert torch.linalg.eigvalsh(again.covariance.double()).min() > 0
    # Data leave less room than the prior did.
    prior = toy_fitted.prior
    before = torch.trace(prior.latent_covariance) / prior.config.fit.prior_strength
    assert torch.trace(again.covariance) < 0.5 * before
    assert torch.equal(again.sample(3), toy_fitted.sample(3))
    assert not torch.equal(again.sample(3), again.sample(3, seed=1))


def test_files_of_format_1_have_no_posterior(toy_fitted, path):
    tensors, metadata = read_tensors(path)
    data = json.loads(metadata["nisf"])
    data["format"] = 1
    del data["breath_holds"], data["kind"]
    write_tensors(path, {"latent": tensors["latent"]}, {"nisf": json.dumps(data)})
    old = read_subject(path, toy_fitted.prior)
    assert old.covariance is None
    assert old.breath_holds == ()
    np.testing.assert_array_equal(old.render().label, toy_fitted.render().label)
    with pytest.raises(
        NisfError, match="toy99: was fitted by an older nisf and has no posterior; fit it again"
    ):
        old.render(samples=2)


def test_files_of_format_2(toy_fitted, toy_image_prior, tmp_path):
    """Breath-holds had another name, and image-conditioned fields an empty latent."""
    moved = replace(toy_fitted, breath_holds=(BreathHold(0, 2, (3.0, -4.0), 1.2, 0.5),))
    seen = fit(toys.toy_case(98), toy_image_prior)
    for subject in (moved, seen):
        write_subject(tmp_path / "new.nisf", subject)
        tensors, metadata = read_tensors(tmp_path / "new.nisf")
        data = json.loads(metadata["nisf"])
        data["format"] = 2
        del data["kind"]
        data["held"] = data.pop("breath_holds", [])
        latent = {} if "latent" in tensors else {"latent": torch.zeros(0)}
        write_tensors(tmp_path / "old.nisf", {**tensors, **latent}, {"nisf": json.dumps(data)})
        old = read_subject(tmp_path / "old.nisf", subject.prior)
        np.testing.assert_array_equal(
            old.render(probabilities=True).probability, subject.render(probabilities=True).probability
        )


def test_a_kind_keeps_only_what_it_has(toy_fitted, toy_image_prior, tmp_path):
    write_subject(tmp_path / "latent.nisf", toy_fitted)
    write_subject(tmp_path / "image.nisf", fit(toys.toy_case(98), toy_image_prior))
    (latent, _), (image, metadata) = (read_tensors(tmp_path / f"{n}.nisf") for n in ("latent", "image"))
    assert sorted(latent) == ["covariance", "latent"]
    assert sorted(image) == ["canvases.images", "canvases.maps", "canvases.times"]
    data = json.loads(metadata["nisf"])
    assert data["kind"] == "image"
    assert "breath_holds" not in data


def test_wrong_covariance(toy_fitted, path):
    tensors, metadata = read_tensors(path)
    write_tensors(path, {**tensors, "covariance": torch.eye(3)}, metadata)
    with unchecked(), pytest.raises(NisfError, match=r"covariance of shape \(3, 3\) does not fit the latent"):
        read_subject(path, toy_fitted.prior)


@pytest.mark.parametrize(
    ("name", "what"), [("a.nii.gz", "an image"), ("a.txt", "no subject"), ("b", "a folder")]
)
def test_what_is_no_subject_is_called_by_its_name(tmp_path, name, what):
    if name == "b":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(NisfError, match=f"{what}; give a subject's file, NAME.nisf"):
        read_subject(tmp_path / name)
