"""A static page: one file without a server, which contains features that a decoder in the browser queries."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from nisf.data.geometry import Affine
from nisf.data.region import Region
from nisf.errors import BadSettingError, CannotFitError
from nisf.files import replacing
from nisf.outputs import recorded_file
from nisf.view.bundle import bundled
from nisf.view.chunks import Chunks, coding, pixels
from nisf.view.coding import MIXTURE, Rounding, rounding_of
from nisf.view.measured import description
from nisf.view.viewed import Viewed
from nisf.view.wide_text import wide_text
from nisf.view.worker import Step

PAGE = Path(__file__).parent / "page"
MARGIN_MM = 12.0
"""Margin around the structures; the file gives answers within it."""


@dataclass(frozen=True)
class Made:
    """A static page.

    Attributes:
        html: text of the file.
        phases: number of measured phases that it contains, and that there are.
        error: largest measured difference of an answer from Python's.
    """

    html: str
    phases: tuple[int, int]
    error: float

    @property
    def file(self) -> bytes:
        """The file's bytes: UTF-16 with its mark, which every browser believes before all else."""
        return ("\ufeff" + self.html).encode("utf-16-le")


def static_page(viewed: Viewed, most_mb: float = 15.0, *, measured: bool = True) -> Made:
    """Make the page of one subject, with as many measured phases as fit.

    Args:
        viewed: the subject.
        most_mb: maximum size of the file, MB.
        measured: whether to include the scan's own pixels.

    Raises:
        CannotFitError: the subject's kind has no decoder for browsers, or its volumes could not be found.
        BadSettingError: not even one phase fits.
    """
    for _ in viewed.work_ahead():
        pass
    if viewed.background.problem:
        raise CannotFitError(viewed.background.problem)
    box = _box(viewed)
    times = np.zeros(1) if viewed.background.grid is None else viewed.background.grid.times
    every = count = len(times)
    phases = list(range(every))
    whole = rounding = rounding_of(viewed.subject.portable(phases, box))
    while True:
        made = _page(viewed, box, phases, every, rounding, measured=measured)
        size = len(made.file) / 1e6
        if size <= most_mb:
            return made
        if count == 1:
            raise BadSettingError(f"one phase takes {size:.1f} MB; allow more than {most_mb:g} MB")
        # Only the phases are scaled: the rest of the page is small.
        count = max(1, min(count - 1, int(count * most_mb / size)))
        phases = evenly_spread(times, viewed.background.curves()["phases"].values(), count)
        rounding = whole.kept(viewed.subject.portable(phases, box), phases)


def write_static(
    viewed: Viewed, path: Path, most_mb: float = 15.0, *, measured: bool = True, overwrite: bool = False
) -> Made:
    """Write the page of one subject atomically, without replacing files that nisf did not write.

    Arguments and errors are those of `static_page`; ``overwrite`` replaces any file.
    """
    with recorded_file(path, "view", overwrite=overwrite):
        made = static_page(viewed, most_mb, measured=measured)
        with replacing(path) as temporary:
            temporary.write_bytes(made.file)
    return made


def evenly_spread(times: Float[np.ndarray, "t"], named: Collection[float], count: int) -> list[int]:
    """Indices of ``count`` phases, evenly spread; three or more include those nearest to the named times.

    Args:
        times: of all phases.
        named: at most two.
        count: at most as many as there are times.
    """
    chosen = np.linspace(0, len(times), count, endpoint=False).round().astype(int)
    phases = [int(np.argmin(np.abs(times - time))) for time in named] if count > 2 else []
    for phase in phases:
        if phase not in chosen:
            away = np.where(np.isin(chosen, phases), len(times), np.abs(chosen - phase))
            chosen[np.argmin(away)] = phase
    return sorted({int(phase) for phase in chosen})


def _box(viewed: Viewed) -> Region:
    """The part of the region that contains the structures at all times."""
    region, extent = viewed.subject.region, viewed.background.extent()
    if extent is None:
        raise CannotFitError(f"{viewed.subject.name}: no structure was found, so there is nothing to show")
    low = np.maximum(extent[0] - MARGIN_MM, -region.half)
    high = np.minimum(extent[1] + MARGIN_MM, region.half)
    matrix = region.pose.matrix.copy()
    matrix[:3, 3] -= (low + high) / 2
    return Region(Affine(matrix), (high - low) / 2)


def _page(
    viewed: Viewed, box: Region, phases: list[int], every: int, rounding: Rounding, *, measured: bool
) -> Made:
    portable = rounding.portable
    chunks = Chunks(bytearray(), {})
    for name, array in portable.weights.items():
        chunks.add(name, array)
    features, error = _features(rounding, chunks)
    info = description(viewed)
    times = [info["times"][phase] for phase in phases]
    info |= {"times": times, "moves": len(times) > 1, "draws": False}
    info["region"] = {"pose": box.pose.matrix.tolist(), "half": box.half.tolist()}
    info["stacks"], codings = _stacks(viewed, box, phases, chunks, measured=measured)
    if not measured:
        info["missing"] = "This file does not contain the scan's own pixels."
    contents = {
        "info": info,
        "decoder": {**portable.settings, "coding": features},
        "measured": codings,
        "islands": _islands(viewed, phases, chunks),
        "ends": _ends(viewed),
        "curves": _curves(viewed, phases),
        "findings": _findings(viewed, phases),
        "views": _views(viewed, times[0]),
        "chunks": chunks.table,
        "bytes": len(chunks.data),
    }
    html = _html(contents, bytes(chunks.data), f"{viewed.subject.name} – nisf view")
    return Made(html, (len(phases), every), error)


def _features(rounding: Rounding, chunks: Chunks) -> tuple[dict[str, Any], float]:
    """Features of all phases as chunks; how the page decodes them, and the measured error."""
    portable, found = rounding.portable, rounding.coded()
    chunks.add("basis", found.basis)
    chunks.add("middle", found.middle)
    chunks.add_predicted("features", found.numbers)
    side = portable.block
    sizes = [[(x.shape[0] // side, x.shape[1] // side) for x in tables] for tables in portable.features]
    return {"block": side, **coding(sizes, MIXTURE)}, found.error


def _stacks(
    viewed: Viewed, box: Region, phases: list[int], chunks: Chunks, *, measured: bool
) -> tuple[list[dict[str, Any]], list[dict[str, Any] | None]]:
    """The stacks at the phases that are kept, and how the page decodes their pixels around the box."""
    out, codings = [], []
    for index, stack in enumerate(description(viewed)["stacks"]):
        frames = phases if len(stack["times"]) > max(phases) else list(range(len(stack["times"])))
        kept, coding = {**stack, "times": [stack["times"][frame] for frame in frames]}, None
        if "thickness" in stack and not measured:
            del kept["thickness"]
        elif "thickness" in stack:
            kept["gaps"] = [[k, frames.index(t)] for k, t in stack["gaps"] if t in frames]
            coding = pixels(viewed, box, index, frames, chunks)
        out.append(kept)
        codings.append(coding)
    return out, codings


def _islands(viewed: Viewed, phases: list[int], chunks: Chunks) -> dict[str, Any] | None:
    """Barred voxels of the reference stack at each phase, and the classes barred there (a byte for each)."""
    if not viewed.background.removes:
        return None
    islands = viewed.subject.island_map
    for number, phase in enumerate(phases):
        barred = islands.at(phase, memory_mb=256.0)
        chunks.add(f"barred {number}", barred.index.astype("<u4"))
        chunks.add(f"bars {number}", barred.structures.astype(np.uint8))
    return {"shape": list(islands.grid.shape), "affine": islands.grid.affine.matrix.tolist()}


def _ends(viewed: Viewed) -> dict[str, Any] | None:
    """First and last measured position of the reference stack, if there are blank slices beyond."""
    stack = viewed.subject.reference_stack
    if stack is None or stack.ends is None:
        return None
    return {"affine": stack.grid.affine.matrix.tolist(), "ends": list(stack.ends)}


def _curves(viewed: Viewed, phases: list[int]) -> dict[str, Any]:
    curves = viewed.background.curves()
    return {**curves, "volumes": [curves["volumes"][phase] for phase in phases]}


def _findings(viewed: Viewed, phases: list[int]) -> dict[str, Any]:
    """Measures, intervals and warning light; volumes and bands of the included phases."""
    found = viewed.findings.header()
    kept = {name: [found[name][phase] for phase in phases] for name in ("volumes", "halves") if name in found}
    return {**found, **kept}


def _views(viewed: Viewed, time: float) -> dict[str, Any]:
    """The planes of those of the anatomy's views that can be found."""
    out = {}
    for name in viewed.subject.prior.anatomy.views:
        try:
            (packet,) = (answer for answer in viewed.view(name, time) if not isinstance(answer, Step))
        except CannotFitError:
            continue
        out[name] = getattr(packet, "header", None)
    return out


def _digest(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def _html(contents: Mapping[str, Any], data: bytes, title: str) -> str:
    """One file, whose policy allows only its own two scripts and loads nothing."""
    style = (PAGE / "style.css").read_text(encoding="utf-8")
    script, worker = bundled(PAGE, "static-main.js"), bundled(PAGE, "decoder-worker.js")
    policy = (
        f"default-src 'none'; script-src {_digest(script)} blob: 'wasm-unsafe-eval'; "
        f"style-src {_digest(style)}; img-src blob: data:; media-src blob:; worker-src blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    html = (PAGE / "index.html").read_text(encoding="utf-8")
    head = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    safe = title.replace("&", "&amp;").replace("<", "&lt;")
    text = json.dumps(contents, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        '<meta charset="utf-8">': head,
        "<title>nisf view</title>": f"<title>{safe}</title>",
        '<link rel="icon" href="/page/icon.svg">\n': "",
        '<link rel="stylesheet" href="/page/style.css">': f"<style>{style}</style>",
        '<script type="module" src="/page/main.js"></script>': (
            f'<script type="application/json" id="nisf-contents">{text}</script>\n'
            f'<script type="text/plain" id="nisf-data">{wide_text(data)}</script>\n'
            f'<script type="text/plain" id="nisf-worker">{worker}</script>\n'
            f"<script>{script}</script>"
        ),
    }
    for old, new in parts.items():
        html = html.replace(old, new)
    return html
