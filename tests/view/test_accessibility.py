"""The page under axe-core's rules, dark and light, wide and narrow.

axe-core (MPL-2.0) is not part of the repository: NISF_AXE names its ``axe.min.js``, else npm fetches it.
"""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from chromium import chromium_page, needs_chromium

pytest.importorskip("starlette", reason="needs nisf[view]: starlette and uvicorn")

PACKAGE = "axe-core@4.14.1"
RUN = """async () => (await axe.run(document, { resultTypes: ['violations'] })).violations.map(
  (found) => `${found.id}: ${found.help}: ${found.nodes.slice(0, 4).map((node) => node.html).join(' ')}`)"""
pytestmark = [
    pytest.mark.slow,
    needs_chromium,
]


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """The script's text."""
    given, npm = os.environ.get("NISF_AXE"), shutil.which("npm")
    if given:
        return Path(given).read_text(encoding="utf-8")
    folder = tmp_path_factory.mktemp("axe")
    done = npm and subprocess.run([npm, "pack", PACKAGE], cwd=folder, capture_output=True, timeout=120)
    if not done or done.returncode:
        pytest.skip(f"{PACKAGE} cannot be fetched; give NISF_AXE=path/to/axe.min.js")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        return archive.extractfile("package/axe.min.js").read().decode()


@pytest.mark.parametrize("width", [1280, 768, 390])
@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_no_rule_is_broken(served, axe, width, scheme):
    host, token = served
    # The page's own policy would not let a test's script in.
    settings = {"color_scheme": scheme, "bypass_csp": True, "reduced_motion": "reduce"}
    with chromium_page(width, 800, pixels=1, **settings) as page:
        page.goto(f"http://{host}/?token={token}")
        page.wait_for_function(
            "() => window.nisfPage?.info && nisfPage.findings?.complete && nisfPage.idle()"
        )
        page.evaluate(axe)
        broken = page.evaluate(RUN)
        page.evaluate("() => nisfPage.togglePanel(true)")
        broken += page.evaluate(RUN)
        page.evaluate(
            "() => { nisfPage.togglePanel(false); document.querySelector('#help-button').click(); }"
        )
        broken += page.evaluate(RUN)
    assert broken == []
