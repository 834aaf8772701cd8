import html
import re
import urllib.request

import pytest

import nisf
from chromium import SHARP, chromium_page, needs_chromium

pytest.importorskip("starlette", reason="needs nisf[view]: starlette and uvicorn")


def test_the_page_itself_is_in_the_notebook(toy_seen):
    text = nisf.view(toy_seen[0], height=400)._repr_html_()
    assert re.match(
        r'<iframe srcdoc="[^"]*" sandbox="allow-scripts allow-downloads" style="[^"]*height: 400px', text
    )
    page = html.unescape(re.search(r'srcdoc="([^"]*)"', text)[1])
    assert "default-src 'none'" in page
    assert "nisf-contents" in page


@needs_chromium
def test_the_page_runs_in_its_frame_and_cannot_reach_the_notebook(toy_seen):
    with chromium_page(900, 700) as page:
        page.set_content(f"<title>mine</title>{nisf.view(*toy_seen)._repr_html_()}")
        frame = page.frames[1]
        frame.wait_for_function("() => window.nisfPage?.info")
        frame.wait_for_function(SHARP)
        reached = "() => { try { return parent.document.title; } catch (error) { return error.name; } }"
        assert frame.evaluate(reached) == "SecurityError"
        assert page.said == []


def test_a_latent_subject_is_served(toy_fitted):
    shown = nisf.view(toy_fitted)
    address = html.unescape(re.search(r'href="([^"]*)"', shown._repr_html_())[1])
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(address, timeout=20) as answer:
        assert b"<html" in answer.read()
    shown.close()
    with pytest.raises(OSError, match="refused"):
        opener.open(address, timeout=5)
