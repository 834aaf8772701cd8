"""A page in a real browser, for tests: Chromium without a graphics card, driven by Playwright."""

import inspect
import shutil
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""Commands that start a browser; the first cannot open a window, and starts fastest."""
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = (
    *("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
    # WebGL is drawn by the emulated graphics card, the rest of the page is not: that takes ten times as long.
    *("--disable-gpu-compositing", "--disable-gpu-rasterization"),
    # Nothing is looked up, updated or reported while tests run.
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"),
)
needs_chromium = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium is installed (apt-get install chromium-headless-shell)"
)
OF_THE_CARD = "GL Driver Message (OpenGL, Performance"
"""What Chromium logs of a page whose WebGL is read back to be drawn, as `FLAGS` ask for."""
SHARP = "() => ['a', 'b', 'c'].every((v) => nisfPage.views[v].canvas.dataset.sharp !== undefined)"
FRESH = (
    "async () => { const { fresh } = await import('/page/store.js'); "
    "nisfPage.store.set({ ...fresh(), planes: nisfPage.store.state.planes }); nisfPage.reset(); }"
)
"""Puts the page's state back to what it was when it was opened."""


def callers(_context=0):
    """As `inspect.stack`, without searching for the sources of all callers: Playwright asks at each call."""
    frame, found = sys._getframe(1), []
    while frame is not None:
        code = frame.f_code
        found.append(inspect.FrameInfo(frame, code.co_filename, frame.f_lineno, code.co_name, None, None))
        frame = frame.f_back
    return found


@contextmanager
def chromium_page(width, height, *, pixels=0.5, patience=60, **context):
    """An empty page of this size; ``page.said`` is what it logs, ``page.asked`` the addresses it asks for.

    Args:
        width: CSS pixels.
        height: CSS pixels.
        pixels: number of screen pixels per CSS pixel along each axis. The layout does not depend on it;
            the time does, since the processor draws.
        patience: seconds to wait for anything.
        context: further options of Playwright's ``new_context``.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the Python package playwright")
    with pytest.MonkeyPatch.context() as patch, playwright.sync_playwright() as running:
        for name in ("_sync_base", "_connection"):
            patch.setattr(f"playwright._impl.{name}.inspect", SimpleNamespace(stack=callers))
        browser = running.chromium.launch(executable_path=BROWSER, args=FLAGS)
        size = {"width": width, "height": height}
        page = browser.new_context(viewport=size, device_scale_factor=pixels, **context).new_page()
        page.set_default_timeout(1000 * patience)
        _w = page.wait_for_function
        page.wait_for_function = lambda f, **k: _w(f, **{"polling": 50, **k})
        page.said, page.asked = [], []
        page.on("console", lambda m: OF_THE_CARD in m.text or page.said.append(m.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        yield page
        browser.close()
