from dataclasses import replace

from nisf.config.schema import Config, FieldConfig, for_data


def test_for_data():
    config = for_data(Config(), dimensions=3, channels=2, classes=7)
    assert (config.field.dimensions, config.field.channels, config.field.classes) == (3, 2, 7)
    assert replace(config, field=Config().field) == Config()


def test_inputs():
    assert FieldConfig(dimensions=3, cyclic_time=True).inputs == 3
    assert FieldConfig(dimensions=4, cyclic_time=True).inputs == 5
    assert FieldConfig().inputs == 4
