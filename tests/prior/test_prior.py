import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

import toys
from nisf.errors import BadFileError, NisfError
from nisf.files import read_tensors, write_tensors
from nisf.kinds.latent.model import LatentPrior
from nisf.kinds.load import load_prior
from nisf.networks.finder import Finder
from nisf.networks.latent_field import LatentField
from nisf.networks.latent_inference import ask
from nisf.networks.orienter import Orienter

SIZE = toys.CONFIG.field.latent


def make_prior(seed=0, *, finder=False, half=(40.0, 40.0, 30.0)):
    torch.manual_seed(seed)
    return LatentPrior(
        toys.CONFIG,
        toys.ANATOMY,
        LatentField(toys.CONFIG.field),
        None if half is None else np.array(half),
        Finder(2.5) if finder else None,
        {"licence": "CC0", "validation": None},
        latent_mean=torch.randn(SIZE),
        latent_covariance=torch.eye(SIZE),
    )


@pytest.fixture
def folder(tmp_path):
    make_prior().save(tmp_path / "prior")
    return tmp_path / "prior"


def edit(folder, change):
    path = folder / "prior.json"
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def edit_tensors(folder, change):
    tensors, _ = read_tensors(folder / "weights.safetensors")
    change(tensors)
    write_tensors(folder / "weights.safetensors", tensors)


def test_settings_newer_than_the_file_keep_its_old_way(folder):
    def older(data):
        del data["config"]["augment"]["blur_pixels"]
        del data["config"]["fit"]["islands"]
        del data["config"]["image"]["slice_exchange"], data["contents"]

    edit(folder, older)
    config = load_prior(folder).config
    assert config.augment.blur_pixels == 1.1
    assert config.fit.islands == "keep"
    assert config.image.slice_exchange == 0


@pytest.mark.parametrize("finder", [True, False])
@pytest.mark.parametrize("half", [(40.0, 41.5, 1 / 3), None])
def test_round_trip(tmp_path, finder, half):
    prior = make_prior(finder=finder, half=half)
    prior.save(tmp_path / "prior")
    assert sorted(p.name for p in (tmp_path / "prior").iterdir()) == ["prior.json", "weights.safetensors"]
    again = load_prior(str(tmp_path / "prior"))
    coordinates = np.random.default_rng(0).uniform(-1, 1, (100, 4))
    for a, b in zip(
        ask(prior.field, prior.latent_mean, coordinates),
        ask(again.field, again.latent_mean, coordinates),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    assert torch.equal(prior.latent_covariance, again.latent_covariance)
    assert again.config == prior.config
    assert again.anatomy == toys.ANATOMY
    assert dict(again.card) == dict(prior.card)
    assert again.fingerprint == prior.fingerprint
    np.testing.assert_array_equal(again.half, prior.half)
    assert (again.finder is not None) == finder
    if finder:
        assert float(again.finder.pixel_mm) == 2.5
        for name, tensor in prior.finder.state_dict().items():
            assert torch.equal(again.finder.state_dict()[name], tensor)
        assert not again.finder.training
    assert not any(p.requires_grad for p in again.field.parameters())
    assert not again.field.training


def test_appendices_belong_to_their_prior(tmp_path):
    prior = make_prior()
    learnt = {"quality": {"prior": prior.fingerprint, "bound": 0.7}}
    replace(prior, appendices=learnt).save(tmp_path)
    again = load_prior(tmp_path)
    assert again.appendices == learnt
    assert again.with_weights(again.weights(), tmp_path).appendices == {}
    (tmp_path / "quality.json").write_text("[1]")
    with pytest.raises(BadFileError, match=r"quality\.json: not a JSON object"):
        load_prior(tmp_path)
    (tmp_path / "quality.json").write_text('{"prior": "0123456789abcdef"}')
    with pytest.raises(BadFileError, match=r"quality\.json: belongs to the prior '0123456789abcdef'"):
        load_prior(tmp_path)


def test_an_orienter_belongs_to_its_prior(tmp_path):
    prior = make_prior()
    kept = replace(prior, orienter=Orienter(4.0))
    assert kept.fingerprint == prior.fingerprint
    assert kept.digest != prior.digest
    kept.save(tmp_path)
    again = load_prior(tmp_path)
    assert again.digest == kept.digest
    assert again.with_weights(again.weights(), tmp_path).orienter is None
    make_prior(1).save(tmp_path)
    with pytest.raises(BadFileError, match=r"orienter\.safetensors: belongs to the prior"):
        load_prior(tmp_path)


def test_fingerprint_sees_any_weight():
    prior = make_prior()
    before = prior.fingerprint
    assert before == make_prior().fingerprint != make_prior(1).fingerprint
    prior.field.class_head.bias[0] += 1e-6
    assert replace(prior).fingerprint != before  # hashed once for each object
    assert len(before) == 16


def test_missing_things(tmp_path, folder):
    with pytest.raises(NisfError, match="no such folder"):
        load_prior(tmp_path / "nothing")
    with pytest.raises(NisfError, match="no such folder"):
        load_prior(folder / "prior.json")
    with pytest.raises(NisfError, match=r"prior\.json: this file is missing"):
        load_prior(tmp_path)
    (folder / "weights.safetensors").unlink()
    with pytest.raises(NisfError, match=r"weights\.safetensors: this file is missing"):
        load_prior(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format=2), "format 2, but this nisf"),
        (lambda d: d.pop("format"), "format None, but this nisf"),
        (lambda d: d["config"]["field"].update(depth=3), r"config\.field: unknown entries \['depth'\]"),
        (lambda d: d["config"]["field"].pop("width"), r"missing entries \['width'\]"),
        (lambda d: d["config"]["field"].update(width="32"), r"config\.field\.width: '32' is not a int"),
        (lambda d: d.pop("config"), "'config'"),
        (lambda d: d.pop("anatomy"), "'anatomy'"),
        (lambda d: d["anatomy"].pop("labels"), "'labels'"),
        (lambda d: d.pop("half_mm"), "'half_mm'"),
        (lambda d: d.update(half_mm="wide"), "wrong"),
        (
            lambda d: d["anatomy"].update(labels=["background", "a"], colours=["#000000"] * 2),
            "2 label names for a field of 3 classes",
        ),
        (lambda d: d["config"]["field"].update(width=16), "has another shape"),
        (lambda d: d["config"]["field"].update(layers=2), "is not expected"),
        (lambda d: d["config"]["field"].update(layers=4), "is missing"),
        (lambda d: d.update(finder=True), "tensor 'finder.* is missing"),
        (lambda d: d.update(fingerprint="0" * 16), "says 0000000000000000; copy both files again"),
    ],
)
def test_edited_specification(folder, change, message):
    edit(folder, change)
    with pytest.raises(NisfError, match=message):
        load_prior(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(half_mm=[30.0, 41.5, 1 / 3]),
        lambda d: d["config"]["fit"].update(steps=3),
        lambda d: d["config"]["region"].update(certain=0.1),
        lambda d: d["anatomy"].update(labels=[*d["anatomy"]["labels"][:1], *d["anatomy"]["labels"][:0:-1]]),
    ],
)
def test_edited_settings_that_fit_the_weights(folder, change):
    edit(folder, change)
    with pytest.raises(NisfError, match=r"prior\.json: settings, region, .* copy the whole folder again"):
        load_prior(folder)


def test_finder_and_latents_of_another_prior(tmp_path):
    folder = tmp_path / "whole"
    make_prior(finder=True).save(folder)
    for name in ("finder.", "latent."):
        copy = shutil.copytree(folder, tmp_path / name)

        def scaled(tensors, name=name):
            tensors.update(
                {n: t * 2 for n, t in tensors.items() if n.startswith(name) and t.is_floating_point()}
            )

        edit_tensors(copy, scaled)
        with pytest.raises(NisfError, match="copy the whole folder again"):
            load_prior(copy)


def test_colours_and_the_card_may_be_edited(folder):
    def edited(data):
        data["anatomy"]["colours"][1] = "#123456"
        data["card"]["licence"] = "mine"

    edit(folder, edited)
    prior = load_prior(folder)
    assert prior.anatomy.colours[1] == "#123456"
    assert prior.card["licence"] == "mine"


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_specification_is_something_else(folder, text):
    (folder / "prior.json").write_text(text)
    with pytest.raises(NisfError, match=r"prior\.json"):
        load_prior(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["field.class_head.bias"].add_(1e-3), "fingerprint .* copy both files again"),
        (
            lambda t: t["field.class_head.bias"].fill_(torch.nan),
            "'field.class_head.bias' has values .* finite",
        ),
        (lambda t: t.pop("field.class_head.bias"), "'field.class_head.bias' is missing"),
        (lambda t: t.update({"field.third.bias": torch.zeros(1)}), "'field.third.bias' is not expected"),
        (lambda t: t.update({"other": torch.zeros(1)}), "'other' is not expected"),
        (lambda t: t.update({"finder.head.bias": torch.zeros(1)}), "'finder.head.bias' is not expected"),
        (lambda t: t.update({"field.class_head.bias": torch.zeros(4)}), "has another shape"),
        (lambda t: t.pop("latent.mean"), "'latent.mean' is missing or not of shape"),
        (lambda t: t.update({"latent.covariance": torch.eye(3)}), "'latent.covariance' is missing or not"),
    ],
)
def test_edited_weights(folder, change, message):
    edit_tensors(folder, change)
    with pytest.raises(NisfError, match=message):
        load_prior(folder)


def test_damaged_weights(folder):
    path = folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(NisfError, match="not a whole safetensors file"):
        load_prior(folder)


def test_unknown_numbers_are_not_written(tmp_path):
    prior = replace(make_prior(), card={"loss": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        prior.save(tmp_path / "prior")
    assert not (tmp_path / "prior" / "prior.json").exists()
