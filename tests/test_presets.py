import pytest

from nisf.errors import NisfError
from nisf.presets import PRESETS, preset


def test_presets():
    for name in PRESETS:
        assert preset(name).preset == name
    with pytest.raises(NisfError, match="fast: no such preset; there are cpu,"):
        preset("fast")
