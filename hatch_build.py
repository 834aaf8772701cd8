"""Writes the commit that a wheel or source archive is built from into it; ``nisf --version`` shows it."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

INSIDE = "nisf/outputs/commit.txt"


class CommitHook(BuildHookInterface):
    """Adds ``commit.txt``; where there is no git, an archive's own is kept."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Ask git, before the files are gathered."""
        root = Path(self.root)
        if version == "editable" or (root / "src" / INSIDE).exists() or not (root / ".git").exists():
            return
        command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        try:
            found = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return
        draft = Path(tempfile.mkdtemp()) / "commit.txt"
        draft.write_text(found.stdout.strip() + "\n", encoding="utf-8")
        build_data["force_include"][str(draft)] = INSIDE if self.target_name == "wheel" else f"src/{INSIDE}"
