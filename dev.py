"""Set up a pinned environment in .venv if it is not there, then run something in it.

    python3 dev.py demo     the demo: train a small prior on phantoms, fit one, show the result
    python3 dev.py test     the tests
    python3 dev.py lint     ruff and the type checker
    python3 dev.py run ...  any command of the environment, e.g. `run nisf --help`

Needs nothing but Python 3.11 or newer; works the same on Linux, macOS and Windows.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements-dev.txt"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")


def set_up() -> None:
    """Make the environment, unless it was made from the same list of packages before."""
    stamp = VENV / "nisf-lock.sha256"
    wanted = hashlib.sha256(LOCK.read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()
    if PYTHON.exists() and stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"setting up {VENV} (once; a few minutes)", flush=True)
    if not PYTHON.exists():
        venv.create(VENV, with_pip=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--requirement", str(LOCK)], check=True)
    subprocess.run([*pip, "--no-build-isolation", "--no-deps", "--editable", str(ROOT)], check=True)
    stamp.write_text(wanted)


def run(*command: str) -> int:
    """Run a command of the environment in the repository's root."""
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", "")])
    program, *rest = command
    found = BIN / (program + (".exe" if os.name == "nt" else ""))
    return subprocess.run(
        [str(found) if found.exists() else program, *rest],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "VIRTUAL_ENV": str(VENV)},
        check=False,
    ).returncode


def main(arguments: list[str]) -> int:
    """The exit status of what was run."""
    if sys.version_info < (3, 11):  # noqa: UP036 - this runs before anything is installed
        print(f"nisf needs Python 3.11 or newer, this is {sys.version.split()[0]}", file=sys.stderr)
        return 2
    verb, *rest = arguments or ["help"]
    if verb not in ("demo", "test", "lint", "run") or (verb == "run" and not rest):
        print(__doc__)
        return 0 if verb in ("help", "-h", "--help") else 2
    set_up()
    if verb == "demo":
        return run("nisf", "demo", *rest)
    if verb == "test":
        return run("python", "-m", "pytest", *rest)
    if verb == "lint":
        return run("ruff", "check") or run("ruff", "format", "--check") or run("ty", "check")
    return run(*rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
