"""How long does the viewer take to answer a plane: coarse, sharp, and at first paint?

    python benchmarks/view_latency.py SUBJECT.nisf [--planes N] [--pixels N] [--browser CHROMIUM]
        [--play MINUTES] [-o OUT]

Planes through the region's centre in random directions, 160 mm wide, half of them at measured times and
half between two. They are requested over HTTP as the page does, one after the other, after the phases
that they need are encoded. First paint is the time from opening the address of a freshly opened case
until all three views are sharp; it needs Chromium and the Python package playwright. Times are wall-clock
and include whatever else the machine does, so the CPU time per plane is reported as well. --play plays
the cine in the browser, turns a plane every second, and reads memory twenty times: of this process, which
is the server, and of the page's scripts after garbage collection.
"""

from __future__ import annotations

import argparse
import http.client
import json
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nisf.errors import exit_status
from nisf.files import write_json
from nisf.segmentation import Request
from nisf.view.library import Library, library_of
from nisf.view.packets import Packet
from nisf.view.server import serve_in_thread

WIDE_MM = 160.0


@contextmanager
def served(library: Library) -> Generator[tuple[str, str]]:
    """Serve the library in a thread; yields host and token."""
    host, token, end = serve_in_thread(library)
    try:
        yield host, token
    finally:
        end()


def answer_times(host: str, token: str, question: dict[str, Any]) -> tuple[float, float]:
    """Seconds until the coarse and the last sharp packet of a plane arrived."""
    connection = http.client.HTTPConnection(host, timeout=120)
    began = time.perf_counter()
    connection.request("POST", "/api/plane", json.dumps(question), {"X-Nisf-Token": token})
    response, found = connection.getresponse(), []
    while lengths := response.read(8):
        header, payload = np.frombuffer(lengths, "<u4")
        response.read(int(header))
        response.read(int(payload))
        found.append(time.perf_counter() - began)
    connection.close()
    return found[0], found[-1]


def questions(info: dict[str, Any], count: int, pixels: int) -> Iterator[dict[str, Any]]:
    """Queries of random planes; every second one is between two measured times."""
    rng = np.random.default_rng(0)
    pose, times = np.array(info["region"]["pose"]), np.array(info["times"])
    centre = -pose[:3, :3].T @ pose[:3, 3]
    for number in range(count):
        axes = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        at = float(times[number // 2 % len(times)])
        if number % 2 and len(times) > 1:
            at = (at + float(times[1]) / 2) % 1.0
        yield {
            "case": 0,
            "view": "a",
            "centre": centre.tolist(),
            "right": axes[:, 0].tolist(),
            "down": axes[:, 1].tolist(),
            "spacing": WIDE_MM / pixels,
            "width": pixels,
            "height": pixels,
            "time": at,
        }


def spread(seconds: list[float]) -> dict[str, float]:
    """Median and 95th percentile, ms."""
    return {f"p{q}": round(1000 * float(np.percentile(seconds, q)), 1) for q in (50, 95)}


def planes(library: Library, count: int, pixels: int) -> dict[str, Any]:
    """Latencies of random planes."""
    described = [answer for answer in library.opening(0) if isinstance(answer, Packet)][-1]
    for _ in library.viewed(0).background.work():
        pass
    out: dict[str, Any] = {}
    with served(library) as (host, token):
        asked = list(questions(dict(described.header), count, pixels))
        for question in asked:
            answer_times(host, token, {**question, "width": 8, "height": 8})
        before = time.process_time()
        found = [answer_times(host, token, question) for question in asked]
        out["processor ms a plane"] = round(1000 * (time.process_time() - before) / len(asked), 1)
    for name, start in (("at measured times", 0), ("between them", 1)):
        chosen = found[start::2]
        out[name] = {"coarse": spread([c for c, _ in chosen]), "sharp": spread([s for _, s in chosen])}
    return out


def first_paint(library: Library, browser: str) -> float:
    """Seconds from opening the page until all views are sharp."""
    from playwright.sync_api import sync_playwright

    every = "['a', 'b', 'c'].every((v) => nisfPage.views[v].canvas.dataset.sharp)"
    sharp = f"() => window.nisfPage?.info && {every}"
    with served(library) as (host, token), sync_playwright() as running:
        opened = running.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = opened.new_page(viewport={"width": 1440, "height": 900})
        began = time.perf_counter()
        page.goto(f"http://{host}/?token={token}")
        page.wait_for_function(sharp, timeout=300_000)
        seconds = time.perf_counter() - began
        opened.close()
    return round(seconds, 2)


def resident_mb() -> float:
    """Resident memory of this process, MB; its peak where there is no /proc."""
    import resource  # not on Windows

    status = Path("/proc/self/statm")
    if status.exists():
        return int(status.read_text().split()[1]) * resource.getpagesize() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


TURN = """() => {
  const { store } = nisfPage, { b } = store.state.planes, c = Math.cos(0.1), s = Math.sin(0.1);
  const right = b.right.map((v, d) => c * v + s * b.down[d]);
  const down = b.down.map((v, d) => c * v - s * b.right[d]);
  store.setPlane('b', { ...b, right, down }); }"""
"""Turns the second view by a tenth of a radian."""


def played(library: Library, browser: str, minutes: float) -> dict[str, Any]:
    """Memory of server and page while a cine plays: at the start, at the end, and the peak."""
    from playwright.sync_api import sync_playwright

    server: list[float] = []
    page_heap: list[float] = []
    with served(library) as (host, token), sync_playwright() as running:
        opened = running.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = opened.new_page(viewport={"width": 1440, "height": 900})
        page.goto(f"http://{host}/?token={token}")
        page.wait_for_function("() => window.nisfPage?.info && nisfPage.findings?.complete", timeout=900_000)
        session = page.context.new_cdp_session(page)
        page.evaluate("() => nisfPage.timeline.toggle()")
        began = time.perf_counter()
        for reading in range(READINGS + 1):
            while time.perf_counter() - began < reading * 60 * minutes / READINGS:
                page.wait_for_timeout(1000)
                page.evaluate(TURN)
            session.send("HeapProfiler.collectGarbage")
            heap = session.send("Runtime.getHeapUsage")
            page_heap.append((heap["usedSize"] + heap.get("backingStorageSize", 0)) / 1e6)
            server.append(resident_mb())
        playing = bool(page.evaluate("() => nisfPage.store.state.playing"))
        opened.close()
    return {
        "minutes": minutes,
        "still playing": playing,
        "server, MB": _course(server),
        "page, MB": _course(page_heap),
    }


def _course(mb: list[float]) -> dict[str, float]:
    """First, last and largest reading, and the growth of a line fitted to their second half, MB."""
    half = mb[len(mb) // 2 :]
    gain = float(np.polyfit(np.linspace(0, 1, len(half)), half, 1)[0])
    found = {"first": mb[0], "last": mb[-1], "most": max(mb), "gain of the second half": gain}
    return {name: round(value, 1) for name, value in found.items()}


READINGS = 20
"""Of memory."""


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("subject", type=Path)
    parser.add_argument("--planes", type=int, default=40)
    parser.add_argument("--pixels", type=int, default=512)
    parser.add_argument("--browser")
    parser.add_argument("--play", type=float, metavar="MINUTES")
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args(arguments)
    result: dict[str, Any] = {"threads": torch.get_num_threads(), "pixels": given.pixels}
    if given.browser:
        library = library_of([given.subject], None, None, Request())
        result["first paint, s"] = first_paint(library, given.browser)
    if given.play:
        if not given.browser:
            parser.error("--play needs --browser")
        library = library_of([given.subject], None, None, Request())
        result["memory"] = played(library, given.browser, given.play)
    library = library_of([given.subject], None, None, Request())
    result |= planes(library, given.planes, given.pixels)
    print(json.dumps(result, indent=2))
    if given.output:
        write_json(given.output, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("view_latency", main))
