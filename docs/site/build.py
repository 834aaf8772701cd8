"""Build the documentation as a website: ``python3 dev.py site``.

    python docs/site/build.py [--open]

Gathers README, ``docs`` and the other pages in ``build/site-pages``, writes the Python reference from the
public names, and has Sphinx make ``build/site``. Every warning is an error. The site needs no server: open
``build/site/index.html``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import webbrowser
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = ROOT / "build" / "site-pages"
OUTPUT = ROOT / "build" / "site"
FROM_ROOT = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "CODE_OF_CONDUCT.md",
    "SECURITY.md",
    "CITATION.cff",
    "LICENSE",
)
CARDS = ROOT / "src" / "nisf" / "prior" / "bundled"
NAVIGATION: dict[str, tuple[str, ...]] = {
    "Start": ("install", "gallery"),
    "Tutorials": (
        "tutorial-first",
        "tutorial-data",
        "tutorial-anatomy",
        "tutorial-python",
        "tutorial-cluster",
        "notebooks",
    ),
    "Guides": ("howto", "viewing", "correcting", "cluster", "training-at-scale", "scaling"),
    "Understand": ("concepts", "design"),
    "Reference": ("reference", "api", "models"),
    "Judge": ("results", "paper", "performance", "experiments", "archive"),
    "Project": ("CONTRIBUTING", "CHANGELOG", "licences", "SECURITY", "CODE_OF_CONDUCT"),
}
"""Heading to its pages, by file name without ending. One that does not exist is left out."""


def relinked(text: str) -> str:
    """A page whose links lead to where the pages are gathered: all in one folder."""
    text = re.sub(r"\]\((?:\.\./|docs/)", "](", text)
    text = re.sub(r"\]\(src/nisf/prior/bundled/([\w-]+)/README\.md", r"](model-\1.md", text)
    return text.replace("](README.md", "](index.md")


def gather() -> None:
    """Copy every page into one folder."""
    shutil.rmtree(PAGES, ignore_errors=True)
    PAGES.mkdir(parents=True)
    for path in [*(ROOT / "docs").glob("*.md"), *(ROOT / name for name in FROM_ROOT)]:
        (PAGES / path.name).write_text(relinked(path.read_text(encoding="utf-8")), encoding="utf-8")
    shutil.copytree(ROOT / "docs" / "images", PAGES / "images")
    if (ROOT / "docs" / "notebooks").is_dir():
        shutil.copytree(ROOT / "docs" / "notebooks", PAGES / "notebooks")
    here = Path(__file__).parent
    shutil.copy(here / "conf.py", PAGES)
    shutil.copytree(here / "static", PAGES / "static")
    cards = sorted(path.parent.name for path in CARDS.glob("*/README.md"))
    for name in cards:
        text = (CARDS / name / "README.md").read_text(encoding="utf-8")
        text = re.sub(r"\]\(\.\./([\w-]+)/README\.md", r"](model-\1.md", text)
        (PAGES / f"model-{name}.md").write_text(re.sub(r"\]\((?:\.\./)+docs/", "](", text), encoding="utf-8")
    listed = toctree("", [f"model-{name}" for name in cards], hidden=False)
    (PAGES / "models.md").write_text(
        f"# Model cards\n\nThe models that come with nisf; `nisf models NAME` prints them too.\n\n{listed}",
        encoding="utf-8",
    )


def toctree(caption: str, names: list[str], *, hidden: bool = True) -> str:
    """A part of the navigation."""
    options = [
        *([f":caption: {caption}"] if caption else []),
        ":maxdepth: 1",
        *([":hidden:"] if hidden else []),
    ]
    return "\n".join(["```{toctree}", *options, "", *names, "```", ""])


def write_index() -> None:
    """The first page: the README, and the navigation."""
    text = relinked((ROOT / "README.md").read_text(encoding="utf-8"))
    trees = []
    known = {name for names in NAVIGATION.values() for name in names}
    for caption, names in NAVIGATION.items():
        trees.append(toctree(caption, [name for name in names if (PAGES / f"{name}.md").exists()]))
    others = {path.stem for path in PAGES.glob("*.md") if not path.stem.startswith("model-")}
    if more := sorted(others - known - {"index"}):
        trees.append(toctree("More", more))
    (PAGES / "index.md").write_text("\n".join([text, *trees]), encoding="utf-8")


def write_api() -> None:
    """The Python reference: every public name, under the headings of the table in the reference."""
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8").split("\n## Python\n")[1]
    lines = [
        "# Python API",
        "",
        "Every public name of the package, from its docstring. The [reference](reference.md#python) has a "
        "table of them; [a tutorial](tutorial-python.md) shows the most important ones.",
        "",
    ]
    import nisf

    for cell in re.findall(r"^\| (\*\*.+?\*\*|`.+?`) \|", reference, re.MULTILINE):
        if cell.startswith("**"):
            lines += [f"## {cell.strip('*')}", ""]
            continue
        for name in re.findall(r"`(\w+)`", cell):
            found = getattr(nisf, name)
            if name.startswith("_") or not callable(found):
                continue
            kind = "autoclass" if isinstance(found, type) else "autofunction"
            lines += ["```{eval-rst}", f".. {kind}:: nisf.{name}", "```", ""]
    (PAGES / "api.md").write_text("\n".join(lines), encoding="utf-8")


def main(arguments: list[str]) -> int:
    """The exit status of Sphinx."""
    gather()
    write_api()
    write_index()
    shutil.rmtree(OUTPUT, ignore_errors=True)
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "--builder",
        "html",
        "--fail-on-warning",
        "--keep-going",
        "--quiet",
    ]
    status = subprocess.run([*command, str(PAGES), str(OUTPUT)], check=False).returncode
    if status == 0:
        print(f"{(OUTPUT / 'index.html').relative_to(ROOT)} is ready")
        if "--open" in arguments:
            webbrowser.open((OUTPUT / "index.html").as_uri())
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
