"""Build the wheel and the source archive, and try each in an empty environment: ``python3 dev.py release``.

    python tools/release.py [--no-demo] [-o dist]

The wheel is installed with its dependencies into a fresh virtual environment outside the repository, where
``nisf --version`` must name the commit, ``nisf doctor`` must find everything in order and the demo must run.
Then the source archive replaces it, and is asked the same but for the demo. Takes about ten minutes on two
cores, most of them for downloading PyTorch and for the demo. Uploads nothing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(*command: str | Path, cwd: Path) -> str:
    """What a command printed; it is shown as it runs.

    Raises:
        SystemExit: it failed.
    """
    print("+", *command, flush=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    ended = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=clean, text=True, capture_output=True, check=False
    )
    print(ended.stdout, end="", flush=True)
    if ended.returncode:
        print(ended.stderr, file=sys.stderr)
        raise SystemExit(f"failed with {ended.returncode}: {' '.join(map(str, command))}")
    return ended.stdout


def build(output: Path) -> list[Path]:
    """The wheel and the source archive, made anew."""
    shutil.rmtree(output, ignore_errors=True)
    run(sys.executable, "-m", "hatchling", "build", "-d", output, cwd=ROOT)
    (wheel,), (source,) = output.glob("*.whl"), output.glob("*.tar.gz")
    return [wheel, source]


def check_version(nisf: Path, folder: Path) -> None:
    """``nisf --version`` names the commit that was built.

    Raises:
        SystemExit: it does not.
    """
    said = run(nisf, "--version", cwd=folder)
    commit = run("git", "rev-parse", "--short=12", "HEAD", cwd=ROOT).strip()
    if commit not in said:
        raise SystemExit(f"nisf --version does not name the commit {commit}")


def main(arguments: list[str] | None = None) -> int:
    """Build, install, try."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--no-demo", action="store_true")
    options = parser.parse_args(arguments)
    wheel, source = build(options.output.resolve())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        venv.create(folder / "env", with_pip=True)
        binaries = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
        pip = (binaries / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        run(*pip, wheel, cwd=folder)
        check_version(binaries / "nisf", folder)
        run(binaries / "nisf", "doctor", cwd=folder)
        if not options.no_demo:
            run(binaries / "nisf", "demo", cwd=folder)
        run(*pip, "--no-deps", "--force-reinstall", source, cwd=folder)
        check_version(binaries / "nisf", folder)
        run(binaries / "nisf", "doctor", cwd=folder)
    print(f"{wheel.name} and {source.name} work")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
