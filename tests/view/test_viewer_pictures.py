"""The pictures of the viewer in the documents can be taken again."""

import importlib.util
from pathlib import Path

import PIL.Image
import pytest

from chromium import needs_chromium

TOOL = Path(__file__).parents[2] / "tools" / "viewer_pictures.py"


@pytest.mark.slow
@needs_chromium
def test_pictures(served, tmp_path):
    pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
    specification = importlib.util.spec_from_file_location("viewer_pictures", TOOL)
    tool = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(tool)
    host, token = served
    tool.take(f"http://{host}/?token={token}", tmp_path, time=0.0)
    assert tool.SIZES["viewer"] == (1280, 800)
    for name, size in tool.SIZES.items():
        with PIL.Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.size == size
            colours = picture.convert("RGB").getcolors(2**24)
        assert len(colours) > 500, "views, contours and text, not an empty page"
