"""Pages in a real browser: quiet consoles, sorting, narrow screens, paper."""

import re
import subprocess

import pytest
from made_up import measures

from chromium import BROWSER, needs_chromium
from nisf.report.case_page import as_html, case_page
from nisf.report.cohort_page import as_html as cohort_html
from nisf.report.cohort_page import cohort_page

pytestmark = needs_chromium


def browse(path, *ask, width=1200):
    """What the browser prints; it has no network, and says all that it has to say."""
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={path.parent / 'profile'}",
    ]
    command += [
        "--host-resolver-rules=MAP * ~NOTFOUND",
        "--enable-logging=stderr",
        "--virtual-time-budget=2000",
    ]
    command += [f"--window-size={width},1000", *ask, path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
    assert not re.search(r"CONSOLE|Refused|ERR_", done.stderr), done.stderr[-2000:]
    return done.stdout


WIDE = """<script>
// A table that scrolls on its own, with what only screen readers see at its far end.
document.querySelector(".scroll").insertAdjacentHTML(
  "beforeend", "<div style='width: 3000px; text-align: right'>x<span class='hidden'>Source</span></div>");
document.title = document.documentElement.scrollWidth > innerWidth ? "the page scrolls"
  : [...document.querySelectorAll("body *")]
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll") && !e.closest("svg"))
  .map(e => e.tagName + "." + e.className).slice(0, 5).join(" ") || "fits";</script>"""
SORT = """<script>{
  const click = k => document.querySelectorAll("th button")[k].click();
  const seen = () => [...document.querySelectorAll("tbody a")].map(a => a.textContent).join();
  const first = seen(); click(3); const up = seen(); click(3);
  document.title = [first, up, seen()].join(" | ");
}</script>"""


@pytest.fixture(scope="module")
def case_file(toy_fitted, tmp_path_factory):
    path = tmp_path_factory.mktemp("browser") / "case.html"
    path.write_text(as_html(case_page(toy_fitted, measures(), None, "Case 001")), encoding="utf-8")
    return path


def test_a_case_on_paper(case_file):
    paper = case_file.with_suffix(".pdf")
    browse(case_file, f"--print-to-pdf={paper}")
    assert paper.read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize("width", [500, 1200])
def test_nothing_is_wider_than_the_screen(case_file, width):
    path = case_file.with_name(f"case-{width}.html")
    path.write_text(
        case_file.read_text(encoding="utf-8").replace("</body>", WIDE + "</body>"), encoding="utf-8"
    )
    assert "<title>fits</title>" in browse(path, "--dump-dom", width=width)


def test_the_cohort_is_sorted(tmp_path):
    rows = [(f"Case {k}", f"case-{k}.html", measures(f"p{k}")) for k in range(3)]
    for k, value in enumerate((55.0, None, 40.0)):
        rows[k][2].values["lv_ef_percent"] = value
    path = tmp_path / "index.html"
    path.write_text(cohort_html(cohort_page(rows)).replace("</body>", SORT + "</body>"), encoding="utf-8")
    order = "Case 0,Case 1,Case 2 | Case 2,Case 0,Case 1 | Case 0,Case 2,Case 1"
    assert f"<title>{order}</title>" in browse(path, "--dump-dom")
