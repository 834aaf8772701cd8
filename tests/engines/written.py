"""What an engine wrote, to be compared with what another wrote."""

import hashlib
import json

from safetensors import safe_open


def content(folder):
    """What was written, without times: bytes of files, tensors of subjects, records without seconds."""
    out = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".nisf":
            with safe_open(path, framework="np") as file:
                out[path.name] = {name: file.get_tensor(name).tobytes() for name in file.keys()}  # noqa: SIM118
        elif path.name.endswith("run.json"):
            parts = json.loads(path.read_text())["parts"]
            out[path.name] = {
                name: (
                    part["state"],
                    [{**entry, "mtime_ns": 0} for entry in part["made"]["inputs"]],
                    part["made"]["prior"],
                    part["made"]["options"],
                    {file: mark["sha256"] for file, mark in part["files"].items() if ".nisf" not in file},
                )
                for name, part in parts.items()
                if path.name != "run.json"
            }
        else:
            out[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return out


def states(results):
    return [result.state for _, result in sorted(results, key=lambda found: found[0])]
