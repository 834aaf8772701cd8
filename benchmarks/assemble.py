"""Make a prior's folder from the weights that ``together.py`` returned.

    python benchmarks/assemble.py RETURNED NAME -o FOLDER [--mix SHARE] [--certain 0 0 0.94]

RETURNED is the output of ``together.py``, NAME one of its recipes. Finder, region and structures come
from the shipped model that was trained on the same subjects; the network and the settings come from the
recipe. The training section of the shipped model's card is replaced.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from common import new_parser
from nisf.config.migration import todays_settings
from nisf.config.overrides import from_dict
from nisf.config.schema import Config
from nisf.errors import BadFileError, exit_status
from nisf.files import read_json, read_tensors
from nisf.kinds.load import load_prior
from nisf.kinds.registry import KINDS
from nisf.prior.prior import Prior
from nisf.prior.stored import Stored
from together import RECIPES


def assembled(returned: Path, name: str, certain: tuple[float, ...], mix: float = 1.0) -> Prior:
    """The prior made from the weights of one recipe.

    Args:
        returned: output of ``together.py``.
        name: name of the recipe.
        certain: the setting ``fit.certain``.
        mix: weight of the trained weights in the average with those that training began from.

    Raises:
        BadFileError: there are no finished weights of that name, or they do not fit the settings.
    """
    trial = RECIPES[name]
    start = load_prior("cardiac-sax" if trial.everyone else "cardiac-sax-80")
    about = read_json(returned / "together.json")
    found = about.get(name) if isinstance(about, dict) else None
    if not isinstance(found, dict) or "config" not in found:
        raise BadFileError(f"{returned / 'together.json'}: has no finished training {name!r}")
    config = from_dict(
        Config, todays_settings(found["config"]), f"{returned / 'together.json'}: config of {name}"
    )
    config = replace(config, fit=replace(config.fit, certain=certain))
    source = returned / f"{name}.safetensors"
    tensors = dict(read_tensors(source)[0])
    if mix != 1.0:
        old = start.weights()
        tensors = {
            key: (mix * tensor.float() + (1 - mix) * old[key].float()).to(tensor.dtype)
            for key, tensor in tensors.items()
        }
    kept = {key: start.card[key] for key in ("nisf", "torch", "licence") if key in start.card}
    training = {"recipe": name, "mix": mix, "steps": found["steps"], "seconds": round(found["seconds"])}
    card = {**start.card, **kept, "gpu_training": training}
    parts = (config, start.anatomy, start.half, start.finder, card, None, "", tensors, source)
    return KINDS[config.field.kind].prior.from_stored(Stored(*parts))


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments and write the folder."""
    parser = new_parser(__doc__)
    parser.add_argument("returned", type=Path)
    parser.add_argument("name", choices=sorted(RECIPES))
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--mix", type=float, default=1.0)
    parser.add_argument("--certain", type=float, nargs="*", default=[0.0, 0.0, 0.94])
    options = parser.parse_args(arguments)
    prior = assembled(options.returned, options.name, tuple(options.certain), options.mix)
    prior = prior.save(options.output)
    print(json.dumps({"folder": options.output.name, "fingerprint": prior.fingerprint}))
    return 0


if __name__ == "__main__":
    raise SystemExit(exit_status("assemble.py", main))
