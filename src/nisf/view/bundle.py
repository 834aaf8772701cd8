"""The page's modules as one script, for a file that can load nothing: a module becomes a function's result.

It knows the few forms that the page's modules use: ``import { a, b } from "./x.js"`` on one line or several,
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
    """A script that does what the module ``entry`` does.

    Raises:
        ValueError: a module has a form that is not known here.
    """
    done: dict[str, str] = {}

    def take(name: str) -> None:
        if name in done:
            return
        done[name] = ""  # modules that import each other would not end
        text = (folder / name).read_text(encoding="utf-8")
        for _, other in IMPORT.findall(text):
            take(other)
        names = [found for _, found in EXPORT.findall(text)]
        text = IMPORT.sub(lambda m: f"const {{{m[1]}}} = {_variable(m[2])};\n", text)
        text = EXPORT.sub(r"\1", text)
        if re.search(r"^(import|export)\b", text, re.MULTILINE) or "</script" in text:
            raise ValueError(f"{name}: an import or export of another form")
        # Order of the keys is that of the imports: what is needed comes first.
        del done[name]
        done[name] = (
            f"const {_variable(name)} = (() => {{\n{text}\nreturn {{ {', '.join(names)} }};\n}})();\n"
        )

    take(entry)
    return '"use strict";\n' + "".join(done.values())
