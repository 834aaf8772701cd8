"""Pages: what is on them, what must never be, and that they need nothing from outside."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from made_up import measures

import toys
from nisf import __version__
from nisf.cli import main
from nisf.errors import BadFileError
from nisf.io.subject_file import write_subject
from nisf.measures.table import write_case
from nisf.outputs import recorded
from nisf.report.case_page import as_html, case_page
from nisf.report.cohort_page import as_html as cohort_html
from nisf.report.cohort_page import cohort_page, outliers, read_references, unmatched
from nisf.report.folder import ReportOptions, Writer, numbered, page_names, subjects_in, write_reports
from nisf.report.words import without_name


@pytest.mark.parametrize(
    ("text", "name", "wanted"),
    [
        ("patient005_frame01: blurred", "patient005", "Case 1_frame01: blurred"),
        ("scanpatient005x", "patient005", "scanCase 1x"),
        ("a: 21 slices, slice 1 of a, 0.1 mm", "1", "a: 21 slices, slice Case 1 of a, 0.1 mm"),
        ("a: a large atrium (a_la)", "a", "Case 1: Case 1 large atrium (Case 1_la)"),
        ("as it was", "", "as it was"),
        ("p.1 and p11", "p.1", "Case 1 and p11"),
    ],
)
def test_names_are_hidden_and_other_words_stay(text, name, wanted):
    assert without_name(text, name, "Case 1") == wanted


VOID = {"meta", "link", "img", "source", "br", "input"}


class Reader(HTMLParser):
    """Everything that an accessible page has to get right: nesting, headings, names of pictures, ids."""

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.ids, self.targets, self.unnamed = [], [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if "id" in attrs:
            self.ids.append(attrs["id"])
        self.targets += [attrs[name] for name in ("src", "href", "srcset") if name in attrs]
        if (tag == "img" and not attrs.get("alt")) or (tag == "svg" and not attrs.get("aria-label")):
            self.unnamed.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def check_page(text):
    page = Reader(text)
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    assert len(set(page.ids)) == len(page.ids)
    assert page.unnamed == []
    for target in page.targets:
        assert target.startswith(("data:", "#")) or re.fullmatch(r"[\w.-]+\.html", target), target[:80]
    assert "default-src 'none'" in text
    assert 'lang="en"' in text
    assert "Not a medical device" in text
    assert len(text) < 5_000_000
    return page


@pytest.fixture(scope="module")
def subject(toy_fitted):
    return replace(toy_fitted, name="janeway_ellen")


@pytest.fixture(scope="module")
def page(subject):
    return case_page(subject, measures(), toys.toy_case(99), "Case 001")


def test_a_case(page, subject):
    text = as_html(page, "index.html")
    check_page(text)
    for said in (
        "LV end-diastolic volume",
        "131 to 149",
        "Check before use",
        "0.81",
        "Case 001: &lt;b&gt;borders&lt;/b&gt; are uncertain",
        "Case 001 has no height",
        subject.prior.fingerprint,
        "Thickening, ED to ES",
    ):
        assert said in text, said
    assert "janeway_ellen" not in text
    assert list(page.sheets) == ["ED", "ES"]
    assert [len(sheet) for sheet in page.sheets.values()] == [6, 6]
    assert sum(bool(p.paths.get("blood")) for p in page.sheets["ED"]) >= 4
    assert page.measured


def test_contours_lie_where_the_labels_change(page, subject):
    """The area within a slice's contours is that of the structure in it."""
    label = subject.render().label[..., 0]
    pixel_mm2 = float(np.prod(subject.stacks[0].grid.spacing[:2]))
    for k in (2, 3):
        path = page.sheets["ED"][k].paths["blood"]
        area = 0.0
        for line in path.split("Z")[:-1]:
            x, y = np.array([place.split(",") for place in line[1:].split("L")], dtype=float).T
            area += 0.5 * float(x @ np.roll(y, -1) - y @ np.roll(x, -1))
        assert abs(area) == pytest.approx((label[:, :, k] == 1).sum() * pixel_mm2, rel=0.06)


def test_a_case_without_measures_or_images(subject):
    reason = "the scan there is not the one that was segmented"
    text = as_html(case_page(subject, None, None, "<script>alert(1)</script>", missing=reason))
    check_page(text)
    assert f"{reason.capitalize()}: these are" in text
    assert "<script" not in text
    assert "the field's own intensities" in text.replace("&#39;", "'")
    assert "Key measures" not in text
    assert "Volumes over the cycle" not in text


def test_a_cohort():
    rows = [(f"Case {k:03}", f"case-{k:03}.html", measures(f"p{k}")) for k in range(1, 10)]
    rows.append(("Case 010", "case-010.html", measures("p10", scale=3.0, quality="red")))
    rows.append(("Case 011", "case-011.html", None))
    ours = [m.values["lv_edv_ml"] for _, _, m in rows[:4]]
    references = {f"p{k + 1}": {"lv_edv_ml": v - (2.0, 4.0, 6.0, 8.0)[k]} for k, v in enumerate(ours)}
    page = cohort_page(rows, references)
    text = cohort_html(page)
    check_page(text)
    assert re.findall(r">(Case \d+)</a></th>", text) == [title for title, _, _ in rows]
    assert [row.title for row in page.rows if any(cell.far for cell in row.cells)] == []
    assert page.lights == {"amber": 9, "red": 1}
    assert "9 cases: check before use" in cohort_html(page)
    assert "1 case: likely wrong" in cohort_html(page)
    # Differences 2, 4, 6, 8: mean 5, sample deviation 2.582.
    assert page.agreement[0].text == "bias +5.0 mL, limits of agreement -0.1 to +10.1 mL, 4 cases"


def test_outliers():
    values = [50.0, 51, 52, 53, 54, 55, 56, None, 57, 90]
    assert [v for v, far in zip(values, outliers(values), strict=True) if far] == [90]
    assert not any(outliers([1.0, 2.0, 300.0]))
    assert not any(outliers([5.0] * 9 + [6.0]))


@pytest.fixture
def folder(subject, tmp_path):
    """What `segment` wrote of two cases, one of which was not measured."""
    for name in ("janeway_ellen", "zoe"):
        write_subject(tmp_path / f"{name}.nisf", replace(subject, name=name))
    write_case(tmp_path, measures())
    return tmp_path


def test_a_folder(folder, subject):
    said = []
    assert write_reports(folder, subject.prior, say=said.append) == {}
    pages = sorted(path.name for path in (folder / "report").iterdir())
    assert pages == ["case-001.html", "case-002.html", "index.html"]
    for path in (folder / "report").iterdir():
        text = path.read_text(encoding="utf-8")
        check_page(text)
        assert not re.search("janeway|ellen|zoe", re.sub(r"base64,[\w+/=]+", "", text), re.IGNORECASE)
        assert str(folder) not in text
    assert (folder / "report-key.csv").read_text().split() == ["case,number", "janeway_ellen,1", "zoe,2"]
    gone = "the file does not say where the scan is, so its page shows the field's intensities"
    assert said[1] == f"Case 001: {gone}"
    assert said[::3] == [
        "[1/2] Case 001: drawing its page",
        "[2/2] Case 002: drawing its page",
        f"wrote {folder / 'report' / 'index.html'}",
    ]
    again = []
    write_reports(folder, subject.prior, say=again.append)
    assert again == [f"wrote {folder / 'report' / 'index.html'}"]
    write_case(folder, measures(quality="red"))
    write_reports(folder, subject.prior, say=again.append)
    assert len(again) == 5
    assert "Likely wrong" in (folder / "report" / "case-001.html").read_text(encoding="utf-8")


def test_a_page_says_what_segmented_the_case(folder, subject):
    """Not only what made the page, perhaps on another computer."""
    with recorded(folder, "zoe", "segment", ours=["zoe.nisf"]):
        write_subject(folder / "zoe.nisf", replace(subject, name="zoe"))
    record = folder / "zoe.run.json"
    stored = json.loads(record.read_text())
    stored["parts"]["segment"]["versions"] = {"nisf": "0.0.7", "torch": "2.4"}
    record.write_text(json.dumps(stored))
    assert write_reports(folder, subject.prior, say=lambda _: None) == {}
    without, known = ((folder / "report" / f"case-00{k}.html").read_text(encoding="utf-8") for k in (1, 2))
    assert "<dt>Segmented with</dt><dd>nisf 0.0.7, torch 2.4</dd>" in known
    assert "<dt>Segmented with</dt><dd>not recorded</dd>" in without
    assert f"nisf {__version__}" in re.search(r"<dt>Page made with</dt><dd>([^<]*)</dd>", known)[1]


def test_a_folder_with_references(folder, subject):
    """What is compared with nothing is said; nan in a cell is no value."""
    (folder / "references.csv").write_text("case,lv_edv_ml\njaneway_ellen,150\nmallory,nan\n")
    said = []
    options = ReportOptions(references=read_references(folder / "references.csv"))
    assert write_reports(folder, subject.prior, options, say=said.append) == {}
    assert said[-2:] == [
        "note: references: mallory is not one of the measured cases",
        "note: references: no measure has values of at least two cases, so no agreement is shown",
    ]


def test_names_if_asked_for(folder, subject):
    options = ReportOptions(identifiers=True, only=frozenset({"janeway_ellen"}))
    write_reports(folder, subject.prior, options, to=folder / "named", say=lambda _: None)
    assert sorted(path.name for path in (folder / "named").iterdir()) == ["index.html", "janeway_ellen.html"]
    assert "<h1>janeway_ellen</h1>" in (folder / "named" / "janeway_ellen.html").read_text(encoding="utf-8")
    assert not (folder / "report-key.csv").exists()


def test_numbers_are_kept(tmp_path):
    write = Writer(tmp_path, tmp_path / "report", overwrite=False, say=print)
    assert numbered(tmp_path, ["b", "d"], write) == {"b": "Case 001", "d": "Case 002"}
    assert numbered(tmp_path, ["a", "b", "d"], write) == {"a": "Case 003", "b": "Case 001", "d": "Case 002"}
    (tmp_path / "report-key.csv").write_text("nonsense\n1\n")
    with pytest.raises(BadFileError, match=r"not a key of reports"):
        numbered(tmp_path, ["a"], write)
    (tmp_path / "report-key.csv").write_text(f"case,number\n{'x' * 200_000},1\n")
    with pytest.raises(BadFileError, match=r"not a key of reports"):
        numbered(tmp_path, ["a"], write)


def test_pages_of_like_names():
    pages = page_names({"a": "Index", "b": "x y", "c": "X-Y", "d": "Case 007"})
    assert list(pages.values()) == ["Index-2.html", "x-y.html", "X-Y-2.html", "case-007.html"]


def test_references(tmp_path):
    path = tmp_path / "references.csv"
    path.write_text("case,lv_edv_ml,lv_ef_percent,remark\np1,150,60,\np2,,55,\n")
    assert read_references(path) == {
        "p1": {"lv_edv_ml": 150, "lv_ef_percent": 60},
        "p2": {"lv_ef_percent": 55},
    }
    # As in measures.csv: bounds of intervals and the quality are not compared.
    path.write_text("case,lv_edv_ml,lv_edv_ml_low,LVEDV,predicted_dice\np1,nan,140,150,0.9\np2,,,seen,\n")
    assert read_references(path) == {"p1": {"LVEDV": 150}, "p2": {}}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,lv_edv_ml\np1,150\n", "has no column 'case'"),
        ("case;lv_edv_ml\np1;150\n", "separated by semicolons"),
        ("case,lv_edv_ml\np1,150\np1,160\n", "line 3 is a second one for p1"),
        ("case,lv_edv_ml\np1,150\np2,-inf\n", "p2: lv_edv_ml is -inf; give a finite number"),
        ('case,lv_edv_ml\np1,"150,5"\n', "p1: lv_edv_ml is '150,5'; give a number with a decimal point"),
        (f"case,lv_edv_ml\n{'x' * 200_000},150\n", "cannot be read as a table"),
    ],
)
def test_what_are_no_references(tmp_path, text, says):
    path = tmp_path / "references.csv"
    path.write_text(text)
    with pytest.raises(BadFileError, match=says):
        read_references(path)


def test_references_that_match_nothing():
    rows = [(f"Case {k}", f"{k}.html", measures(f"p{k}")) for k in (1, 2)]
    good = {"p1": {"lv_edv_ml": 150.0}, "p2": {"lv_edv_ml": 150.0}}
    assert unmatched(good, rows) == []
    assert unmatched(good | {"p3": {}, "p4": {}}, rows) == [
        "references: p3 is not one of the measured cases (2 such cases)"
    ]
    said = unmatched({"p1": {"LVEDV": 150.0}, "p2": {}}, rows)
    assert said[0].startswith("references: column LVEDV is not a measure of these cases; name columns")
    assert "no agreement is shown" in said[1]
    assert len(said) == 2


def test_the_command(folder, capsys):
    for path, why in (("nothing", "no such file or folder"), ("zoe.nisf", "not a folder")):
        assert main(["report", str(folder / path)]) == 2
        assert why in capsys.readouterr().err
    (folder / "empty").mkdir()
    assert main(["report", str(folder / "empty")]) == 2
    assert "contains no subject" in capsys.readouterr().err
    # A prior is a folder or the name of a model.
    for prior, why in (("cardiac-sax", "contains no subject"), ("nowhere", "nowhere: no such folder")):
        assert main(["report", str(folder / "empty"), "--prior", prior]) == 2
        assert why in capsys.readouterr().err
    (folder / "zoe.nisf").write_bytes(b"damaged")
    assert main(["report", str(folder)]) == 1
    printed = capsys.readouterr()
    assert "zoe: failed:" in printed.err
    assert (folder / "report" / "case-001.html").is_file()


def test_the_command_for_some_cases(folder, capsys):
    # Names as Excel saves them; one that does not exist is not passed over.
    only = folder / "only.txt"
    only.write_text("zoe\n", encoding="utf-8-sig")
    command = ["report", str(folder), "--only", str(only), "-o", str(folder / "some")]
    assert main(command) == 0
    assert [path.name for path in (folder / "some").glob("case*.html")] == ["case-001.html"]
    capsys.readouterr()
    only.write_text("zoe\nzo\n")
    assert main(command) == 2
    assert f"{only}: case zo is not in the cohort" in capsys.readouterr().err
    with pytest.raises(BadFileError, match="contains none of the cases"):
        subjects_in(folder, frozenset({"zo"}))


def test_pages_of_the_user_stay(folder, subject, tmp_path):
    options = ReportOptions(only=frozenset({"janeway_ellen"}))
    index = tmp_path / "index.html"
    index.write_text("mine")
    with pytest.raises(BadFileError, match=r"index\.html: was not written by nisf"):
        write_reports(folder, subject.prior, options, to=tmp_path, say=lambda _: None)
    assert index.read_text() == "mine"
    options = replace(options, overwrite=True)
    assert write_reports(folder, subject.prior, options, to=tmp_path, say=lambda _: None) == {}
    assert "<html" in index.read_text(encoding="utf-8")
