"""The licences of the packages that nisf needs, as a Markdown table: from what is installed here.

    python tools/third_party.py

Lists the direct dependencies of ``pyproject.toml`` and of its extras, with the licence that each package's
own metadata names. ``python3 dev.py docs`` puts it into the page on licences.
"""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHORT = {
    "BSD License": "BSD",
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "PSF-2.0": "PSF-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""Names in metadata to shorter ones."""


def needed() -> dict[str, str]:
    """Package to what needs it: ``nisf``, or the names of extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found: dict[str, list[str]] = {}
    for group, packages in {"nisf": project["dependencies"], **project["optional-dependencies"]}.items():
        for package in packages:
            name = re.split(r"[\[<>=!~; ]", package)[0]
            if name != "nisf":
                found.setdefault(name, []).append(group)
    return {
        name: "always" if "nisf" in groups else f"extra {', '.join(groups)}"
        for name, groups in sorted(found.items(), key=lambda item: item[0].lower())
    }


def licence(name: str) -> str:
    """What a package's metadata says; ``not installed here`` if it is not."""
    try:
        found = metadata(name)
    except PackageNotFoundError:
        return "not installed here"
    classified = [
        line.rsplit("::", 1)[1].strip()
        for line in found.get_all("Classifier") or ()
        if line.startswith("License ::")
    ]
    said = found.get("License-Expression") or ", ".join(classified) or found.get("License") or "not stated"
    said = said.strip().splitlines()[0]
    return SHORT.get(said, said)


def main() -> int:
    """Print the table."""
    print("| package | licence | needed by |\n|---|---|---|")
    for name, group in needed().items():
        print(f"| {name} | {licence(name)} | {group} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
