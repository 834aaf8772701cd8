import pytest

from nisf.config.presets import PRESETS, preset
from nisf.errors import NisfError


def test_presets():
    for name in PRESETS:
        assert preset(name).preset == name
    with pytest.raises(NisfError, match="fast: no such preset; there are cpu,"):
        preset("fast")
