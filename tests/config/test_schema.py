from dataclasses import replace

from nisf.config.schema import Config, FieldConfig, for_data, unused


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
