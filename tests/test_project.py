"""What an open project has beside its code agrees with the code."""

import re
import tomllib
from pathlib import Path

import pytest

import nisf

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_one_version_everywhere():
    assert PROJECT["version"] == nisf.__version__
    assert f"\nversion: {nisf.__version__}\n" in read("CITATION.cff")
    assert re.search(
        rf"^## {re.escape(nisf.__version__)} - \d{{4}}-\d\d-\d\d$", read("CHANGELOG.md"), re.MULTILINE
    )


def test_the_image_has_no_root():
    commands = re.findall(r"^([A-Z]+) (.*)$", read("Dockerfile"), re.MULTILINE)
    users = [text for name, text in commands if name == "USER"]
    assert users
    assert users[-1].isdecimal()
    assert int(users[-1]) > 0
    bases = [text.split()[0] for name, text in commands if name == "FROM"]
    assert all(":" in base and not base.endswith(":latest") for base in bases)
    for name, text in commands:
        if name == "COPY" and "--from" not in text:
            assert all((ROOT / source).exists() for source in text.split()[:-1]), text


def test_every_extra_is_documented():
    page = read("docs/install.md")
    for extra in PROJECT["optional-dependencies"]:
        assert f"| `{extra}` |" in page, extra


@pytest.mark.parametrize(
    "path",
    [path for path in ROOT.rglob("*.y*ml") if ".venv" not in path.parts and "build" not in path.parts]
    + [ROOT / "CITATION.cff"],
    ids=lambda path: path.name,
)
def test_yaml_can_be_read(path):
    yaml = pytest.importorskip("yaml")
    assert yaml.safe_load(path.read_text(encoding="utf-8"))


def test_workflows_run_the_supported_versions():
    supported = {line.rsplit(" ", 1)[1] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)}
    assert supported == set(re.findall(r'"(3\.\d+)"', read(".github/workflows/ci.yml")))


@pytest.mark.parametrize(
    "path", [*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda path: path.name
)
def test_lines_of_text_fit(path):
    """Only tables, headings, pictures, links and commands may be longer."""
    text = re.sub(r"^ *```.*?^ *```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    long = [
        line for line in text.splitlines() if len(line) > 120 and not line.startswith(("|", "#", "![", "<"))
    ]
    assert not long, long[0]


def test_verbs_of_the_set_up_are_documented():
    verbs = set(re.findall(r"python3 dev\.py (\w+)", read("dev.py").split('"""')[1]))
    page = read("CONTRIBUTING.md") + read("README.md")
    assert all(f"dev.py {verb}" in page for verb in verbs), verbs


def test_pages_of_the_site_link_to_each_other(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "site"))
    import build

    named = {name for names in build.NAVIGATION.values() for name in names}
    assert {"tutorial-first", "howto", "reference", "results", "CONTRIBUTING"} <= named
    found = build.relinked("[a](docs/x.md) [b](../LICENSE) [c](y.md#z)")
    assert found == "[a](x.md) [b](LICENSE) [c](y.md#z)"
