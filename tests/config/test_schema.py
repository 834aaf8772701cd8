from dataclasses import replace

import pytest

from nisf.config.fit_options import FitOptions
from nisf.config.overrides import from_dict, override, to_dict
from nisf.config.presets import PRESETS, preset
from nisf.config.schema import Config, FieldConfig, for_data, unused
from nisf.errors import BadFileError, BadSettingError


def test_for_data():
    config = for_data(Config(), dimensions=3, channels=2, classes=7)
    assert (config.field.dimensions, config.field.channels, config.field.classes) == (3, 2, 7)
    assert replace(config, field=Config().field) == Config()


def test_inputs():
    assert FieldConfig(dimensions=3, cyclic_time=True).inputs == 3
    assert FieldConfig(dimensions=4, cyclic_time=True).inputs == 5
    assert FieldConfig().inputs == 4


def test_unused():
    config = Config()
    for name in unused("latent") | unused("image"):
        section, _, setting = name.partition(".")
        assert hasattr(getattr(config, section), setting)
    assert not unused("latent") & unused("image")  # what no kind uses should not be a setting
    assert "fit.steps" in unused("image")
    assert "train.precision" in unused("latent")
    assert not {"field.classes", "fit.islands", "train.steps"} & unused("image")
    assert unused("another") == frozenset()


@pytest.mark.parametrize(
    "text",
    [
        "image.width=-1",
        "image.levels=0",
        "image.levels=9",
        "image.pixels=50",
        "image.pixels=24",
        "image.pixels=16",
        "image.pixel_mm=-1",
        "augment.window=0",
        "augment.noise=nan",
        "augment.scale=1e9",
        "fit.certain=0,2",
        "train.steps=-1",
        "train.seed=-1",
        "train.alpha=inf",
        "train.learning_rate=-inf",
        "field.layers=100000",
        "region.margin_mm=-0.1",
    ],
)
def test_what_is_out_of_bounds_is_refused_by_name(text):
    with pytest.raises(BadSettingError, match=rf"^{text.partition('=')[0]}=.*: give .*") as caught:
        override(preset("image"), [text])
    assert caught.value.options == ()
    # In a file, the file is named.
    section, name = text.partition("=")[0].split(".")
    data = to_dict(preset("image"))
    value = text.partition("=")[2]
    data[section][name] = [float(x) for x in value.split(",")] if "," in value else float(value)
    if isinstance(getattr(getattr(preset("image"), section), name), int):
        data[section][name] = int(value)
    with pytest.raises(BadFileError, match=rf"^a\.json\.{section}\.{name}="):
        from_dict(Config, data, "a.json")


def test_the_encoder_can_halve_coarse_canvases_too():
    config = override(preset("image"), ["image.pixels=40", "image.levels=3"])  # in either order
    assert config == override(preset("image"), ["image.levels=3", "image.pixels=40"])
    for settings in (["augment.coarse_pixels=24"], ["image.levels=6", "image.pixels=128"]):
        with pytest.raises(BadSettingError, match=r"^augment\.coarse_pixels=\d+: give a multiple of"):
            override(preset("image"), settings)
        assert override(preset("image"), [*settings, "augment.coarse=0"]).augment.coarse == 0


def test_presets_are_within_bounds():
    for config in PRESETS.values():
        assert from_dict(Config, to_dict(config)) == config


def test_options_of_a_fit_have_bounds():
    with pytest.raises(BadSettingError, match=r"seed=-1: give at least 0") as caught:
        FitOptions(seed=-1)
    assert caught.value.options == ("seed",)
    with pytest.raises(BadSettingError, match="steps=0"):
        FitOptions(steps=0)
