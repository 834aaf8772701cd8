"""A page in a real browser, for tests: Chromium without a graphics card, driven by Playwright."""

import shutil
from contextlib import contextmanager

import pytest

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
needs_chromium = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium is installed (apt-get install chromium)"
)
SHARP = "() => ['a', 'b', 'c'].every((v) => nisfPage.views[v].canvas.dataset.sharp !== undefined)"
FRESH = (
    "async () => { const { fresh } = await import('/page/store.js'); "
    "nisfPage.store.set({ ...fresh(), planes: nisfPage.store.state.planes }); nisfPage.reset(); }"
)
"""Puts the page's state back to what it was when it was opened."""


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
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=BROWSER, args=FLAGS)
        size = {"width": width, "height": height}
        page = browser.new_context(viewport=size, device_scale_factor=pixels, **context).new_page()
        page.set_default_timeout(1000 * patience)
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        yield page
        browser.close()
