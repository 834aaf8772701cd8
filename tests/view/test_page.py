"""The page in a real browser: what it shows is what Python answers, and nothing is written on the console."""

import io

import numpy as np
import PIL.Image
import pytest

from chromium import FRESH, SHARP, chromium_page, needs_chromium
from nisf.measures.case import measure
from nisf.view.questions import PlaneQuestion

pytest.importorskip("starlette", reason="needs nisf[view]: starlette and uvicorn")

pytestmark = needs_chromium
DRAWN = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
"""Waits until what was set before is on the screen."""
PNG = "() => atob(nisfPage.views.a.canvas.toDataURL().split(',')[1])"


@pytest.fixture(scope="module")
def opened(served):
    """The page, opened once; what it wrote on the console and asked for, while it lives."""
    host, token = served
    with chromium_page(1200, 640, accept_downloads=True) as page:
        page.goto(f"http://{host}/?token={token}")
        page.wait_for_function("() => window.nisfPage?.info && nisfPage.findings?.complete")
        yield page
    assert all(url.startswith((f"http://{host}/", "blob:", "data:")) for url in page.asked)


@pytest.fixture
def page(opened):
    opened.evaluate(FRESH)
    opened.wait_for_function(SHARP)
    opened.said.clear()
    yield opened
    assert opened.said == []


def plane_of(page, view="a"):
    """The question whose answer a view shows, and the answer's classes and intensities."""
    found = page.evaluate(
        "(v) => { const { question, sheet } = nisfPage.views[v]; return { question, width: sheet.width, "
        "label: [...sheet.label], intensity: [...sheet.intensity] }; }",
        view,
    )
    question = PlaneQuestion.read(found["question"])
    shape = (question.height, question.width)
    label = np.array(found["label"]).reshape(shape)
    return question, label, np.array(found["intensity"]).reshape(shape) / 65535


def test_what_it_shows_is_what_python_renders(page, toy_seen):
    page.wait_for_function("() => nisfPage.views.a.sheet.final")
    question, label, intensity = plane_of(page)
    truth = toy_seen[0].render(question.grid())
    assert (label == truth.label[:, :, 0, 0].T).mean() > 0.998
    scaled = toy_seen[0].stacks[0].normalise(truth.image[:, :, 0, 0])[..., 0].T
    assert np.abs(intensity - scaled).mean() < 2e-3
    # The pixels on the screen: without layers, greys by the window.
    page.evaluate(
        "() => nisfPage.store.set({ classes: 'none', around: false, unmeasured: false, lines: false })"
    )
    page.evaluate(DRAWN)
    grey = page.evaluate(
        "() => { const { picture } = nisfPage.views.a; return [...picture.getContext('2d')"
        ".getImageData(0, 0, picture.width, picture.height).data].filter((_, i) => i % 4 === 0); }"
    )
    grey = np.array(grey).reshape(label.shape)
    inside = grey > 0  # beyond the region's edge the page draws nothing
    assert inside.mean() > 0.2
    assert np.abs(grey - 255 * intensity)[inside].max() <= 1
    assert intensity[~inside].max() < 0.05


def test_planes_move_turn_and_tilt_by_keys_and_mouse(page):
    box = page.locator('[data-view="a"] canvas').bounding_box()
    middle = box["x"] + box["width"] / 2 - 40, box["y"] + box["height"] / 2 - 30
    before = page.evaluate("() => nisfPage.store.state.planes.a")

    def dragged(by=(30, 18)):
        page.mouse.move(*middle)
        page.mouse.down()
        page.mouse.move(middle[0] + by[0], middle[1] + by[1], steps=4)
        page.mouse.up()
        return page.evaluate("() => nisfPage.store.state.planes.a")

    moved = dragged()
    away = np.array(moved["centre"]) - before["centre"]
    assert away @ before["right"] < -1
    assert abs(away @ np.cross(before["right"], before["down"])) < 1e-6
    page.click('[data-tool="tilt"]')
    tilted = dragged()
    assert np.cross(tilted["right"], tilted["down"]) @ np.cross(moved["right"], moved["down"]) < 0.999
    page.locator('[data-view="a"] canvas').focus()
    page.keyboard.press("E")  # as with Caps Lock
    turned = page.evaluate("() => nisfPage.store.state.planes.a")
    assert np.isclose(np.dot(turned["right"], tilted["right"]), np.cos(np.deg2rad(5)), atol=1e-6)
    page.keyboard.press("PageDown")
    page.keyboard.press("+")
    zoomed = page.evaluate("() => nisfPage.store.state.planes.a")
    step = np.array(zoomed["centre"]) - turned["centre"]
    assert np.isclose(step @ np.cross(turned["right"], turned["down"]), 1)
    assert np.isclose(turned["extent"] / zoomed["extent"], 1.25)
    page.wait_for_function(SHARP)
    question, _, _ = plane_of(page)
    assert np.allclose(question.centre, zoomed["centre"])


def test_time_layers_and_volumes(page, toy_seen):
    page.locator('input[aria-label="Time in the cycle"]').fill("0.25")
    page.wait_for_function(SHARP)
    assert plane_of(page)[0].time == pytest.approx(0.25)
    shown = page.locator("#panel tbody tr").first.locator("td.number").first.inner_text()
    curve = measure(toy_seen[0]).curve.ml["blood"]
    assert float(shown) == pytest.approx(np.mean(curve), abs=0.06)
    for base in ("measured", "difference", "field"):
        page.click(f'#panel [data-value="{base}"]')
        assert page.evaluate("() => nisfPage.store.state.base") == base
    page.click('#panel [data-value="fill"]')
    page.select_option('select[aria-label="Probability"]', "1")
    page.keyboard.press("Space")
    page.wait_for_function("() => nisfPage.store.state.time !== 0.25")
    page.wait_for_function("() => nisfPage.solid.canvas.dataset.surfaces === 'shown'")


PLAYING = "() => nisfPage.store.state.playing"


def test_space_plays_wherever_the_focus_is(page):
    for control in ('select[aria-label="Probability"]', 'select[aria-label="Speed"]', "#timeline input"):
        page.locator(control).focus()
        for playing in (True, False):
            page.keyboard.press("Space")
            assert page.evaluate(PLAYING) is playing
    # A button or a box that was clicked keeps the focus; one that was reached by keys is for Space.
    button, box = page.locator('#panel [data-value="fill"]'), page.locator('[data-check="lines"]')
    for control in (button, box):
        control.click()
        page.keyboard.press("Space")
        assert page.evaluate(PLAYING) is True
        page.keyboard.press("Space")
    assert page.evaluate("() => nisfPage.store.state.lines") is False
    page.keyboard.press("Tab")
    for control, changed in ((button, "classes"), (box, "lines")):
        page.evaluate("() => nisfPage.store.set({ classes: 'none' })")
        before = page.evaluate("(name) => nisfPage.store.state[name]", changed)
        control.focus()
        page.keyboard.press("Space")
        assert page.evaluate("(name) => nisfPage.store.state[name]", changed) != before
        assert page.evaluate(PLAYING) is False


LOOPS = """() => {
  const loops = [], others = [], wait = window.requestAnimationFrame;
  window.requestAnimationFrame = (ticks) => (ticks.name === 'tick' ? loops : others).push(ticks);
  for (let k = 0; k < 3; k++) nisfPage.timeline.toggle();
  const first = loops.splice(0);
  first.forEach((tick) => tick(performance.now()));
  window.requestAnimationFrame = wait;
  others.forEach((draw) => wait(draw));
  nisfPage.store.set({ playing: false });
  return [first.length, loops.length];
}"""
"""How many loops play at first, and after a tick of each; play is pressed three times between two frames."""


def test_only_one_loop_plays(page):
    assert page.evaluate(LOOPS) == [2, 1]


def test_the_next_slice_is_that_after_the_shown_one(page, toy_seen):
    count = toy_seen[1].stacks[0].grid.shape[2]
    words = page.locator("#panel .note", has_text="Measured slice")
    for _ in range(count):
        page.keyboard.press("[")
    for position in range(2, count + 1):
        page.keyboard.press("]")
        assert words.inner_text() == f"Measured slice {position} of {count}"


def test_space_is_left_to_text(page):
    page.evaluate(
        "() => { const text = document.createElement('input'); text.id = 'words'; "
        "document.querySelector('#panel').append(text); text.focus(); }"
    )
    page.keyboard.type("a b")
    assert page.input_value("#words") == "a b"
    assert page.evaluate(PLAYING) is False
    page.evaluate("() => document.querySelector('#words').remove()")


ASKED = """async () => {
  const { source, curves, info, solid, store } = nisfPage, asked = [];
  source.volume = async (time) => {
    asked.push(time);
    if (time === 0.5) store.set({ time: 0.7 });
    throw new DOMException("a newer question took its place", "AbortError");
  };
  nisfPage.curves = { ...curves, phases: { ED: 0.9, ES: 0.4 } };
  store.set({ time: 0.31 });
  await solid.open({ ...info, times: Array.from({ length: 10 }, (_, k) => k / 10) });
  delete source.volume;
  nisfPage.curves = curves;
  store.set({ time: 0 });
  await solid.open(info);
  return asked;
}"""


def test_the_shown_phase_then_ed_and_es_come_first(page):
    asked = page.evaluate(ASKED)
    # First at the shown time itself; at 0.5 the user moves on to 0.7.
    assert asked == [0.31, 0.3, 0.9, 0.4, 0.5, 0.7, 0.8, 0.0, 0.1, 0.2, 0.6]


def test_points_and_rulers(page, toy_seen):
    page.keyboard.press("P")
    box = page.locator('[data-view="a"] canvas').bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_function("() => nisfPage.panel.picked?.answer")
    found = page.evaluate("() => nisfPage.panel.picked")
    _, probability = toy_seen[0].query(np.array([found["position"]]), 0.0)
    assert np.allclose(found["answer"]["probability"], probability[0], atol=0.02)
    page.keyboard.press("d")
    start = box["x"] + 60, box["y"] + 60
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(start[0] + 100, start[1], steps=3)
    page.mouse.up()
    mark = page.evaluate("() => nisfPage.store.state.marks[0]")
    length = np.linalg.norm(np.subtract(mark["points"][1], mark["points"][0]))
    mm = page.evaluate("() => nisfPage.store.state.planes.a.extent") / min(box["width"], box["height"])
    assert length == pytest.approx(100 * mm, rel=0.01)
    assert f"{length:.1f} mm" in page.locator("#panel").inner_text()


@pytest.mark.parametrize("key", ["d", "a"])
def test_escape_gives_up_a_ruler_that_is_being_drawn(page, key):
    box = page.locator('[data-view="a"] canvas').bounding_box()
    x, y = box["x"] + 60, box["y"] + 60
    page.keyboard.press(key)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 40, y, steps=12)
    page.keyboard.press("Escape")
    page.mouse.move(x + 80, y, steps=3)
    page.mouse.up()
    assert page.evaluate("() => nisfPage.store.state.marks") == []


def test_a_link_restores_the_view(page):
    page.locator('[data-view="b"] canvas').focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Alt+ArrowUp")
    page.evaluate("() => nisfPage.store.set({ time: 0.3, classes: 'fill', opacity: 0.7 })")
    page.keyboard.press("l")
    page.wait_for_function("() => location.hash.length > 10")
    before = page.evaluate("() => nisfPage.store.state")
    page.reload()
    page.wait_for_function("() => window.nisfPage?.info")
    page.wait_for_function(SHARP)
    after = page.evaluate("() => nisfPage.store.state")
    for name in ("time", "classes", "opacity", "active"):
        assert after[name] == before[name]
    for view in "abc":
        for part in ("centre", "right", "down"):
            assert np.allclose(after["planes"][view][part], before["planes"][view][part], atol=1e-3)
    # The planes at the start have their names there, too.
    titles = "() => [...document.querySelectorAll('figcaption span')].slice(0, 3).map((e) => e.textContent)"
    assert page.evaluate(titles)[1] == "Oblique"
    page.keyboard.press("0")
    page.wait_for_function(SHARP)
    assert page.evaluate(titles) == ["Slice", "Across 1", "Across 2"]


@pytest.mark.parametrize(
    ("notes", "complete", "said"),
    [
        ([], True, "This anatomy has no measures."),
        ([], False, "Being computed; the views come first."),
        (["Volumes could not be found"], True, "Volumes could not be found"),
    ],
)
def test_why_there_are_no_measures(page, notes, complete, said):
    text = page.evaluate(
        "async (findings) => { const { findingsSection } = await import('/page/findings.js'); "
        "return findingsSection(findings).textContent; }",
        {"groups": [], "notes": notes, "complete": complete},
    )
    assert text == f"Quality and measures{said}"


def test_what_was_used_last_is_kept(page):
    """Two phases are decoded together: the older one stays when the other one is made."""
    made, kept = page.evaluate(
        "async () => { const { Recent } = await import('/page/unpacking.js'); "
        "const made = [], recent = new Recent(3); "
        "for (const k of [28, 1, 2, 28, 29]) recent.get(k, () => made.push(k)); "
        "return [made, [...recent.kept.keys()]]; }"
    )
    assert made == [28, 1, 2, 29]
    assert kept == [2, 28, 29]


def test_a_hostile_link_changes_nothing(page):
    state = page.evaluate(
        "async () => { const { stateOf } = await import('/page/store.js'); return stateOf('#' + "
        "encodeURIComponent(JSON.stringify({ planes: { a: '<b>' }, marks: [{ kind: 'x' }], time: 'soon', "
        "hidden: ['x'], base: 'field', evil: 1, case: -1, probability: 1.5, active: 'd' }))); }"
    )
    assert state == {"base": "field"}


@pytest.mark.parametrize(
    ("mark", "kept"),
    [
        ({"kind": "distance", "points": [[0, 0, 0], [3, 4, 0]]}, True),
        ({"kind": "distance", "points": [[0, 0, 0]]}, False),
        ({"kind": "distance", "points": []}, False),
        ({"kind": "area", "points": [[0, 0, 0], [3, 4, 0]]}, False),
        ({"kind": "area", "points": [[0, 0, 0], [3, 4, 0], [3, 0, 0]]}, True),
        ({"kind": "point", "points": [[0, 0, 0]]}, False),
    ],
)
def test_rulers_of_a_link_are_whole(page, mark, kept):
    state = page.evaluate(
        "async (mark) => { const { stateOf } = await import('/page/store.js'); "
        "return stateOf('#' + encodeURIComponent(JSON.stringify({ marks: [mark] }))); }",
        mark,
    )
    assert state == ({"marks": [mark]} if kept else {})


@pytest.mark.parametrize(
    ("button", "ending", "start"),
    [
        ("Picture", ".png", b"\x89PNG"),
        ("Mesh", ".stl", bytes(80)),
        ("NIfTI", ".nii.gz", b"\x1f\x8b"),
        ("Film", ".webm", b"\x1a\x45\xdf\xa3"),
        ("GIF", ".gif", b"GIF89a"),
    ],
    ids=["picture", "mesh", "nifti", "film", "gif"],
)
def test_taken_away(page, button, ending, start, tmp_path):
    page.wait_for_function("() => nisfPage.solid.canvas.dataset.surfaces === 'shown'")
    with page.expect_download() as download:
        page.click(f'#panel button:text-is("{button}")')
    assert download.value.suggested_filename.endswith(ending)
    path = tmp_path / f"taken{ending}"
    download.value.save_as(path)
    assert path.read_bytes().startswith(start)
    if button == "GIF":
        with PIL.Image.open(path) as film:
            assert film.n_frames == 2
            film.seek(1)
            last = np.asarray(film.convert("RGB")).astype(int)
        page.locator('input[aria-label="Time in the cycle"]').fill("0.5")
        page.wait_for_function(SHARP)
        shown = PIL.Image.open(io.BytesIO(page.evaluate(PNG).encode("latin-1"))).convert("RGB")
        assert np.abs(np.asarray(shown.resize(last.shape[1::-1])) - last).mean() < 6
    if button == "NIfTI":
        import nibabel as nib

        image = nib.load(path)
        question, label, _ = plane_of(page)
        assert np.array_equal(np.asarray(image.dataobj)[:, :, 0], label.T)
        assert np.allclose(image.affine, question.grid().affine.matrix, atol=1e-3)


def test_help_is_there_and_controls_have_names(page):
    page.set_viewport_size({"width": 400, "height": 640})
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    assert page.locator("#help dt").count() > 20
    # It begins with its title, also where it has to be scrolled.
    assert page.locator("#help").evaluate("(dialog) => dialog.scrollHeight > dialog.clientHeight")
    assert page.locator("#help").evaluate("(dialog) => dialog.scrollTop") == 0
    page.keyboard.press("Escape")
    nameless = page.evaluate(
        "() => [...document.querySelectorAll('button, input, select, canvas')].filter((e) => "
        "!(e.getAttribute('aria-label') || e.textContent.trim() || e.closest('label')?.textContent.trim()))"
        ".map((e) => e.outerHTML)"
    )
    assert nameless == []
    page.set_viewport_size({"width": 1200, "height": 640})
