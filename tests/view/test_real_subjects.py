"""The page on real scans: played, filmed, linked, corrected, and pictured in three widths, dark and light.

NISF_SCREENSHOTS names a folder that the pictures are kept in.
"""

import base64
import io
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from chromium import FRESH, SHARP, chromium_page, needs_chromium
from nisf.segmentation import Request
from nisf.view.library import library_of

pytest.importorskip("starlette", reason="needs nisf[view]: starlette and uvicorn")

pytestmark = [
    pytest.mark.slow,
    needs_chromium,
]
DATA = Path(os.environ.get("NISF_DATA", Path(__file__).parents[3] / "shared" / "data"))
SCANS = {"pair": "acdc/patient005", "cine": "sunnybrook/SC-HF-I-1_sa.nii.gz"}
DONE = (
    "() => window.nisfPage?.info && nisfPage.curves?.complete && nisfPage.findings?.complete"
    " && nisfPage.idle() && nisfPage.solid.canvas.dataset.surfaces === 'shown'"
)
LABELS = "(k) => [...nisfPage.views.a.sheet.label].reduce((sum, label) => sum + (label === k), 0)"
FILM = """(data) => new Promise((done, failed) => {
  const video = Object.assign(document.createElement("video"), { muted: true, src: data, onerror: failed });
  video.onloadeddata = () => done([video.videoWidth, video.videoHeight]);
  document.body.append(video);
})"""


@pytest.fixture(scope="module", params=list(SCANS))
def opened(request, serving):
    """The page of a real scan, which is segmented first; nothing is written on its console."""
    scan = DATA / SCANS[request.param]
    if not scan.exists():
        pytest.skip(f"no {scan}; set NISF_DATA")
    library = library_of((scan,), None, None, Request())
    browser = chromium_page(1440, 900, pixels=1, patience=300, accept_downloads=True)
    with serving(library) as (host, token), browser as page:
        page.kind = request.param
        page.goto(f"http://{host}/?token={token}")
        page.wait_for_function(DONE)
        yield page
        assert page.said == []


@pytest.fixture
def page(opened):
    opened.evaluate(FRESH)
    opened.wait_for_function(SHARP)
    return opened


def taken(page, button):
    """Bytes of what a button saves."""
    with page.expect_download() as download:
        page.click(f'#panel button:text-is("{button}")')
    return download.value.path().read_bytes()


def test_time_plays_until_it_is_paused(page):
    times = page.evaluate("() => nisfPage.info.times")
    seen = set()
    page.locator("body").press("Space")
    while len(seen) < min(len(times), 5):
        page.wait_for_function("(seen) => !seen.includes(nisfPage.store.state.time)", arg=list(seen))
        seen.add(page.evaluate("() => nisfPage.store.state.time"))
    page.locator("body").press("Space")
    stopped = page.evaluate("() => nisfPage.store.state.time")
    page.wait_for_timeout(600)
    assert page.evaluate("() => nisfPage.store.state.time") == stopped
    assert all(np.isclose(times, time).any() for time in seen)


def test_films(page):
    count = page.evaluate("() => nisfPage.info.times.length")
    with PIL.Image.open(io.BytesIO(taken(page, "GIF"))) as film:
        assert film.n_frames == count
        pictures = []
        for frame in range(count):
            film.seek(frame)
            pictures.append(np.asarray(film.convert("RGB")).astype(int))
    assert min(np.abs(a - b).mean() for a, b in pairwise(pictures)) > 0.05
    webm = base64.b64encode(taken(page, "Film")).decode()
    canvas = page.evaluate("() => [nisfPage.views.a.canvas.width, nisfPage.views.a.canvas.height]")
    # In a page of its own: the viewer's policy lets no film in.
    other = page.context.new_page()
    assert np.allclose(other.evaluate(FILM, f"data:video/webm;base64,{webm}"), canvas, atol=1)
    other.close()


def test_a_link_restores_the_view(page):
    page.locator('[data-view="b"] canvas').focus()
    for key in ("ArrowLeft", "Alt+ArrowUp", "+"):
        page.keyboard.press(key)
    page.locator('input[aria-label="Show LV myocardium"]').click()
    page.evaluate("() => nisfPage.store.set({ time: 0.31, classes: 'fill' })")
    page.keyboard.press("l")
    page.wait_for_function("() => location.hash.length > 10")
    page.wait_for_function(SHARP)
    names = ("time", "classes", "hidden", "active", "planes")
    before = page.evaluate("() => [nisfPage.store.state, [...nisfPage.views.b.sheet.label]]")
    page.reload()
    page.wait_for_function("() => window.nisfPage?.info")
    page.wait_for_function(SHARP)
    page.wait_for_function("() => nisfPage.views.b.sheet.final")
    after = page.evaluate("() => [nisfPage.store.state, [...nisfPage.views.b.sheet.label]]")
    for name in names[:-1]:
        assert after[0][name] == before[0][name]
    assert np.mean(np.equal(before[1], after[1])) > 0.999
    page.evaluate("() => history.replaceState(null, '', location.href.split('#')[0])")
    page.wait_for_function(DONE)


def test_help_opens_and_closes(page):
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    box = page.locator("#help").bounding_box()
    assert box["y"] >= 0
    assert box["y"] + box["height"] <= 900
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()


def test_a_stroke_is_followed_and_undone(page):
    labels = page.evaluate("() => nisfPage.info.labels")
    k = labels.index("RV blood pool")
    page.wait_for_function("() => nisfPage.views.a.sheet.final")
    before = page.evaluate("() => [...nisfPage.views.a.sheet.label]")
    first = page.evaluate(LABELS, k)
    # Beside the heart: nothing is there before.
    page.select_option("#strokes select", label="RV blood pool")
    page.click("#paint")
    box = page.locator('[data-view="a"] canvas').bounding_box()
    x, y = box["x"] + 0.5 * box["width"], box["y"] + 0.72 * box["height"]
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 30, y, steps=8)
    page.mouse.up()
    counts = []
    for number, button in ((1, "#undo"), (0, "#redo"), (1, "#undo"), (0, None)):
        page.wait_for_function(
            "(n) => !nisfPage.strokes.busy && nisfPage.strokes.done.length === n", arg=number
        )
        page.wait_for_function(SHARP)
        page.wait_for_function("() => nisfPage.views.a.sheet.final")
        counts.append(page.evaluate(LABELS, k))
        if button:
            page.click(button)
    assert counts[0] > first
    assert counts == [counts[0], first, counts[0], first]
    assert page.evaluate("() => [...nisfPage.views.a.sheet.label]") == before
    page.click("#paint")
    page.wait_for_function(DONE)


@pytest.mark.parametrize("width", [400, 900, 1440])
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_nothing_is_cut_off(page, width, theme, tmp_path):
    folder = Path(os.environ.get("NISF_SCREENSHOTS", tmp_path))
    page.evaluate("(theme) => nisfPage.setTheme(theme)", theme)
    page.set_viewport_size({"width": width, "height": 860})
    page.wait_for_timeout(300)
    page.wait_for_function(SHARP)
    shots = {"page": "() => {}", "panel": "() => nisfPage.togglePanel(true)"}
    shots["help"] = "() => { nisfPage.togglePanel(false); document.querySelector('#help-button').click(); }"
    for name, action in shots.items():
        page.evaluate(action)
        page.wait_for_timeout(300)
        page.screenshot(path=folder / f"{page.kind}-{width}-{theme}-{name}.png")
        over = page.evaluate(
            "() => [...document.querySelectorAll('button, select, h2, td, th, p, label, .word')]"
            ".filter((e) => { const box = e.getBoundingClientRect(), panel = e.closest('#panel, .tools');"
            " return box.width && !panel && (box.right > innerWidth + 1 || box.left < -1); })"
            ".map((e) => e.outerHTML.slice(0, 90))"
        )
        assert over == [], name
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    assert page.locator("#help-title").bounding_box()["y"] > page.locator("#help").bounding_box()["y"]
    page.keyboard.press("Escape")
    page.set_viewport_size({"width": 1440, "height": 900})
    page.evaluate("() => nisfPage.setTheme('dark')")
