"""Bundle the page's modules into one script for a page without a server; modules become function calls.

Supports only the forms that the page's modules use: ``import { a, b } from "./x.js"`` on one or more lines,
and ``export`` before ``const``, ``function``, ``async function`` or ``class``.
"""

from __future__ import annotations

import re
from pathlib import Path

IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w-]+\.js)";\n', re.MULTILINE)
EXPORT = re.compile(r"^export ((?:async )?(?:const|function|class) (\w+))", re.MULTILINE)


def _variable(name: str) -> str:
    return "m_" + re.sub(r"\W", "_", name.removesuffix(".js"))


def bundled(folder: Path, entry: str) -> str:
    """A script equivalent to the module ``entry``.

    Raises:
        ValueError: a module has an unsupported form.
    """
    done: dict[str, str] = {}

    def take(name: str) -> None:
        if name in done:
            return
        done[name] = ""  # guards against circular imports
        text = (folder / name).read_text(encoding="utf-8")
        for _, other in IMPORT.findall(text):
            take(other)
        names = [found for _, found in EXPORT.findall(text)]
        text = IMPORT.sub(lambda m: f"const {{{m[1]}}} = {_variable(m[2])};\n", text)
        text = EXPORT.sub(r"\1", text)
        if re.search(r"^(import|export)\b", text, re.MULTILINE) or "</script" in text:
            raise ValueError(f"{name}: an unsupported form of import or export")
        # Keys are in the order of the imports: dependencies come first.
        del done[name]
        done[name] = (
            f"const {_variable(name)} = (() => {{\n{text}\nreturn {{ {', '.join(names)} }};\n}})();\n"
        )

    take(entry)
    return '"use strict";\n' + "".join(done.values())
