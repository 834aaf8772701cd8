"""Take the pictures of the viewer in the documents, of a page in Chromium.

    nisf phantom phantoms --subjects 1
    nisf segment phantoms -o out
    python tools/viewer_pictures.py out/phantom0000.nisf -o docs/images

Writes viewer.png and viewer-phone.png. Needs Playwright's Python package and an installed Chromium.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
SIZES = {"viewer": (1280, 800), "viewer-phone": (400, 800)}
"""Width and height of each picture in CSS pixels."""
DRAWN = (
    "() => window.nisfPage?.info && nisfPage.curves?.complete && nisfPage.findings?.complete"
    " && nisfPage.idle() && nisfPage.solid.canvas.dataset.surfaces === 'shown'"
    " && ['a', 'b', 'c'].every((v) => nisfPage.views[v].canvas.dataset.sharp !== undefined)"
)
"""JavaScript that is true once everything is shown."""


def main() -> int:
    """Parse the arguments, serve the page and take the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("subject", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--time", type=float, default=0.35, help="fraction of the cycle")
    options = parser.parse_args()
    command = [sys.executable, "-m", "nisf", "view", str(options.subject), "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().removeprefix("nisf view: ").strip()
        take(address, options.output, options.time)
    finally:
        server.terminate()
        server.wait()
    return 0


def take(address: str, folder: Path, time: float) -> None:
    """Open the page and save it in each size."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=browser, args=FLAGS).new_page()
        page.set_default_timeout(300_000)
        page.goto(address)
        for name, (width, height) in SIZES.items():
            page.set_viewport_size({"width": width, "height": height})
            page.wait_for_function(DRAWN)
            page.evaluate("(time) => nisfPage.store.set({ time })", time)
            page.wait_for_timeout(1000)
            page.wait_for_function(DRAWN)
            page.screenshot(path=folder / f"{name}.png")


if __name__ == "__main__":
    raise SystemExit(main())
