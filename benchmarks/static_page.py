"""Size of a subject's static page, and how much its answers in a browser differ from Python's.

    python benchmarks/static_page.py SUBJECT.nisf [--places N] [--most-mb MB] [--browser CHROMIUM] [-o OUT]

The page is written, and opened from its file in headless Chromium. At every phase, and at a random time
after it, random points in its box are queried there and in Python; if phases were left out, only at the
phases. Needs Chromium and the Python package playwright. The exit status is 1 if the page writes on its
console.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from nisf.errors import exit_status
from nisf.files import write_json
from nisf.segmentation import Request
from nisf.view.library import library_of
from nisf.view.static import write_static
from nisf.view.viewed import Viewed

FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
ASK = "async ([places, time]) => [...await nisfPage.source.ask(places, time)]"


def asked_times(times: list[float], complete: bool) -> list[float]:
    """Times to query: each phase, and a random time after it if the page has all phases."""
    rng, out = np.random.default_rng(5), []
    for number, at in enumerate(times):
        gap = (times[(number + 1) % len(times)] - at) % 1.0
        out += [at, (at + rng.uniform() * gap) % 1.0] if complete and len(times) > 1 else [at]
    return out


def shown(viewed: Viewed, world: np.ndarray, at: float) -> np.ndarray:
    """Python's answers at points, with islands removed as in the viewer."""
    out, classes = viewed.asked(world, at), slice(viewed.channels, None)
    out[:, classes] = viewed.background.without_islands(out[:, classes], world, at)
    return out


def compared(viewed: Viewed, path: Path, browser: str, places: int, complete: bool) -> dict[str, Any]:
    """Differences between the page's answers and Python's."""
    from playwright.sync_api import sync_playwright

    said: list[str] = []
    rng, errors = np.random.default_rng(6), []
    with sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=browser, args=FLAGS)
        page = chromium.new_page(viewport={"width": 1440, "height": 900})
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        began = time.perf_counter()
        page.goto(path.resolve().as_uri())
        page.wait_for_function("() => window.nisfPage?.info && nisfPage.idle()", timeout=600_000)
        ready = time.perf_counter() - began
        region, times = page.evaluate("() => [nisfPage.info.region, nisfPage.info.times]")
        to_world = np.linalg.inv(np.array(region["pose"]))
        for at in asked_times(times, complete):
            own = rng.uniform(-1, 1, (places, 3)) * region["half"]
            world = own @ to_world[:3, :3].T + to_world[:3, 3]
            found = np.array(page.evaluate(ASK, [world.tolist(), at])).reshape(places, -1)
            wanted = shown(viewed, world, at)
            errors.append(np.abs(found - wanted).max(1))
        chromium.close()
    away = np.concatenate(errors)
    return {
        "first_pictures_s": round(ready, 1),
        "places": len(away),
        "largest": float(away.max()),
        "above_0.001": int((away > 1e-3).sum()),
        "p99.9": float(np.percentile(away, 99.9)),
        "console": said,
    }


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, write the page, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("subject", type=Path)
    parser.add_argument("--places", type=int, default=5000)
    parser.add_argument("--most-mb", type=float, default=15.0)
    parser.add_argument("--browser", default="/usr/bin/chromium")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args(arguments)
    library = library_of((args.subject,), None, None, Request())
    for _ in library.opening(0):
        pass
    viewed = library.viewed(0)
    with tempfile.TemporaryDirectory() as folder:
        path, began = Path(folder) / "page.html", time.perf_counter()
        made = write_static(viewed, path, args.most_mb)
        out = {
            "mb": round(path.stat().st_size / 1e6, 2),
            "phases": list(made.phases),
            "written_s": round(time.perf_counter() - began, 1),
            "checked": made.error,
            **compared(viewed, path, args.browser, args.places, made.phases[0] == made.phases[1]),
        }
    print(out)
    if args.output:
        write_json(args.output, out)
    return int(bool(out["console"]))


if __name__ == "__main__":
    raise SystemExit(exit_status("static_page", main))
