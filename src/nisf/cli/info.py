"""``nisf info``: how an output was made, and whether it has changed since."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from nisf.cli.parse import refuse_missing

if TYPE_CHECKING:
    from nisf.outputs.origin import Origin


@dataclass(frozen=True)
class Info:
    """Print how a file was made: versions, prior, hashes of the inputs, options, seed and date.

    The exit status is 1 if the file has changed since nisf wrote it, and 2 if nisf did not write it.
    """

    path: Annotated[Positional[Path], arg(metavar="FILE")]
    """A segmentation, subject, mesh, table, page, checkpoint or record, or the folder of a prior."""
    all: bool = False
    """Print all settings of a training, not only those that differ from its preset."""
    json: bool = False
    """Print JSON, with all settings."""

    def run(self) -> int:
        from nisf.errors import BadFileError
        from nisf.outputs.origin import origins

        refuse_missing([self.path])
        found = origins(self.path)
        own = says_itself(self.path)
        if not found and not own:
            raise BadFileError(
                f"{self.path}: not written by nisf, or moved away from its record; give a file beside its "
                "NAME.run.json or run.json"
            )
        told = [described(origin) for origin in found]
        if self.json:
            print(json.dumps({"path": str(self.path), "written_by": told, "itself": own}, indent=2))
        else:
            print(f"{self.path}")
            for one in told:
                print("\n".join(lines(one if self.all else without_preset(one))))
            if own:
                print("entries of the file itself:")
                print("\n".join(f"  {name}: {value}" for name, value in own.items()))
            if not told:
                print("no record lists it: whether it has changed since it was written is unknown")
        return 1 if any(one["changed"] for one in told) else 0


def described(origin: Origin) -> dict[str, Any]:
    """An origin as JSON."""
    part = origin.made
    marks = part.files if origin.file is None else {origin.file: part.files[origin.file]}
    times = [mark["mtime_ns"] for mark in marks.values() if "mtime_ns" in mark]
    written = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(max(times) / 1e9)) if times else None
    made = asdict(part.made)
    made["inputs"] = [
        {name: entry[name] for name in ("sha256", "size") if name in entry} for entry in made["inputs"]
    ]
    return {
        "part": origin.part,
        "case": origin.name or None,
        "record": origin.record.name,
        "state": part.state,
        "written": written,
        "changed": origin.changed(),
        "files": {name: mark.get("sha256") for name, mark in marks.items()},
        "versions": part.versions,
        "command": part.command,
        **made,
    }


def lines(one: Mapping[str, Any]) -> list[str]:
    """The result of `described` as lines for a terminal."""
    case = f" of {one['case']}" if one["case"] else ""
    out = [f"written by {one['part']}{case} (record: {one['record']})"]
    changed = ", ".join(one["changed"])
    out.append(f"  content: changed or removed: {changed}" if changed else "  content: as it was written")
    if one["state"] != "done":
        out.append("  state: not finished; the command was interrupted, or is still running")
    out.append(f"  written: {one['written'] or 'not recorded'}")
    out.append(f"  versions: {', '.join(f'{name} {number}' for name, number in one['versions'].items())}")
    out.append(f"  command: {' '.join(['nisf', *one['command']]) if one['command'] else 'none, from Python'}")
    out.append(f"  prior: {one['prior'] or 'none'}")
    for name, digest in one["files"].items():
        out.append(f"  file: {name} sha256 {digest or 'not recorded'}")
    out += [
        f"  input: sha256 {entry.get('sha256', 'not recorded')}, {entry.get('size', '?')} bytes"
        for entry in one["inputs"]
    ]
    out += [f"  {name}: {value}" for name, value in flat(one["options"]).items()]
    if "as_preset" in one:
        out.append(f"  settings: {one['as_preset']}")
    return out


def without_preset(one: Mapping[str, Any]) -> Mapping[str, Any]:
    """The result of `described` without the settings that are its preset's; ``as_preset`` counts them."""
    from nisf.config.overrides import to_dict
    from nisf.config.presets import PRESETS

    settings = one["options"].get("settings")
    if not isinstance(settings, Mapping) or settings.get("preset") not in PRESETS:
        return one
    usual = flat(json.loads(json.dumps(to_dict(PRESETS[settings["preset"]]))))
    found = flat(settings)
    kept = {name: value for name, value in found.items() if name not in usual or usual[name] != value}
    other = {name: value for name, value in one["options"].items() if name != "settings"}
    note = f"{len(found) - len(kept)} more as in the preset {settings['preset']}; --all prints them"
    return {**one, "options": {**other, "settings": kept}, "as_preset": note}


def flat(options: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Nested options by dotted names."""
    out: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, Mapping):
            out |= flat(value, f"{before}{name}.")
        else:
            out[f"{before}{name}"] = value
    return out


def says_itself(path: Path) -> dict[str, Any]:
    """Entries about itself in a prior's folder, a subject or a checkpoint; empty for other files."""
    from nisf.errors import MALFORMED, NisfError
    from nisf.files import read_json, read_metadata

    if path.name in ("prior.json", "weights.safetensors"):
        path = path.parent
    try:
        if path.is_dir():
            if not (path / "prior.json").is_file():
                return {}
            return _of_prior(read_json(path / "prior.json"))
        if path.suffix not in (".nisf", ".safetensors"):
            return {}
        metadata = read_metadata(path)
        if "nisf" in metadata:
            return _of_subject(json.loads(metadata["nisf"]))
        return _of_checkpoint(metadata) if "identity" in metadata else {}
    except (NisfError, *MALFORMED):
        return {}  # a file of the same name that is not nisf's


def _of_prior(data: Mapping[str, Any]) -> dict[str, Any]:
    card, settings = data["card"], data["config"]
    versions = card.get("versions", {})
    return {
        "what": "a prior",
        "fingerprint": data["fingerprint"],
        "kind": settings["field"].get("kind"),
        "seed": settings["train"].get("seed"),
        "steps": settings["train"].get("steps"),
        "subjects": card.get("training", {}).get("subjects"),
        "licence": card.get("licence"),
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()) or "not recorded",
    }


def _of_subject(data: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "what": "a subject",
        "format": data["format"],
        "kind": data.get("kind", "latent"),
        "prior": data["prior"]["fingerprint"],
    }


def _of_checkpoint(metadata: Mapping[str, str]) -> dict[str, Any]:
    identity = json.loads(metadata["identity"])
    return {
        "what": "a checkpoint",
        "step": metadata.get("step", "not begun: the finder is trained first"),
        "steps": identity["config"]["train"]["steps"],
        "seed": identity["config"]["train"]["seed"],
        "preset": identity["config"]["preset"],
        "cases": len(identity["cases"]),
        "start": identity.get("start", "none"),
    }
