"""Corrections in the viewer: over the wire, and painted in a real browser."""

import http.client
import json

import numpy as np
import pytest

from chromium import SHARP, chromium_page, needs_chromium
from nisf.correction.file import read_strokes, scan_mark, strokes_of
from nisf.quality.judgement import kept_judgement

pytest.importorskip("starlette", reason="needs nisf[view]: starlette and uvicorn")

STROKE = {"label": "muscle", "points_mm": [[-2, 0, -5], [6, 0, -5]], "frame": 0, "radius_mm": 3}


@pytest.fixture
def ask(served):
    host, token = served

    def asked(**question):
        connection = http.client.HTTPConnection(host, timeout=60)
        connection.request(
            "POST", "/api/strokes", json.dumps({"case": 0, **question}), {"X-Nisf-Token": token}
        )
        response = connection.getresponse()
        data = response.read()
        connection.close()
        if response.status != 200:
            return json.loads(data)
        size = int.from_bytes(data[:4], "little")
        return json.loads(data[8 : 8 + size])

    yield asked
    asked(strokes=[])


def test_the_open_case_follows_and_goes_back(ask, library):
    before = library.viewed(0).subject
    place = np.array([[2.0, 0.0, -5.0]])
    first = before.query(place)[1]
    assert ask() == {"strokes": []}
    kept = ask(strokes=[STROKE])["strokes"]
    assert ask()["strokes"] == kept
    now = library.viewed(0).subject
    assert now.strokes == strokes_of(kept)
    assert now.query(place)[1].argmax() == 2
    assert now.uncorrected is before.uncorrected
    assert kept_judgement(now) is None  # which is that of the answer without strokes
    assert ask(strokes=[]) == {"strokes": []}
    np.testing.assert_array_equal(library.viewed(0).subject.query(place)[1], first)


@pytest.mark.parametrize(
    ("question", "sentence"),
    [
        ({"strokes": 3}, "strokes: give a list"),
        ({"strokes": [{**STROKE, "label": "bone"}]}, "no class is called 'bone'"),
        ({"strokes": [{**STROKE, "radius_mm": 1e9}]}, "stroke 1: radius_mm"),
        ({"strokes": [{**STROKE, "points_mm": [[900, 0, 0]]}]}, "outside the region"),
        ({"case": 7, "strokes": []}, "no longer open"),
    ],
)
def test_what_is_wrong_is_refused(ask, library, question, sentence):
    before = library.viewed(0)
    assert sentence in ask(**question)["error"]
    assert library.viewed(0) is before


@needs_chromium
def test_paint_undo_redo_in_a_browser(served, library):
    host, token = served
    with chromium_page(1400, 700, accept_downloads=True) as page:
        page.goto(f"http://{host}/?token={token}")
        page.wait_for_function("() => window.nisfPage?.curves?.complete")
        page.wait_for_function(SHARP)
        shown = "() => [...nisfPage.views.a.sheet.label].reduce((sum, k) => sum + (k === 2), 0)"
        follows = "(n) => !nisfPage.strokes.busy && nisfPage.strokes.done.length === n"
        first = page.evaluate(shown)
        page.select_option("#strokes select", label="muscle")
        page.click("#paint")
        box = page.locator('[data-view="a"] canvas').bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        page.mouse.move(x - 20, y)
        page.mouse.down()
        page.mouse.move(x + 20, y, steps=12)
        page.mouse.up()
        counts = []
        for number, button in ((1, "#undo"), (0, "#redo"), (1, None)):
            page.wait_for_function(follows, arg=number)
            page.wait_for_function(SHARP)
            counts.append(page.evaluate(shown))
            if button:
                page.click(button)
        with page.expect_download() as download:
            page.click("#save-strokes")
        subject = library.viewed(0).subject
        assert read_strokes(download.value.path(), subject.stacks[0]) == subject.strokes
        assert json.loads(download.value.path().read_text())["scan"] == scan_mark(subject.stacks[0])
        page.click("#undo")
        page.wait_for_function(follows, arg=0)
    assert counts[0] > first
    assert counts == [counts[0], first, counts[0]]
    assert page.said == []


@needs_chromium
def test_strokes_of_one_case_are_not_sent_for_the_next(served):
    """Until the next case's own strokes are known, nothing can be painted."""
    host, token = served
    with chromium_page(1000, 600) as page:
        page.goto(f"http://{host}/?token={token}")
        page.wait_for_function("() => window.nisfPage?.strokes?.root && !nisfPage.strokes.busy")
        sent = page.evaluate(
            "() => { const { strokes, source } = nisfPage, sent = []; strokes.done = [{ label: 'muscle' }]; "
            "source.strokes = (list) => { if (list) sent.push(list); return new Promise(() => {}); }; "
            "strokes.open({ ...nisfPage.info }); strokes.draw([[0, 0, 0]]); return [sent, strokes.done]; }"
        )
        assert sent == [[], []]
