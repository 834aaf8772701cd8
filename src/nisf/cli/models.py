"""``nisf models``: the bundled priors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Models:
    """List the bundled models, or print the model card of one."""

    name: Annotated[Positional[str | None], arg(metavar="[NAME]")] = None
    """Name of the model whose card to print."""

    def run(self) -> int:
        from nisf.errors import NoSuchModelError
        from nisf.files import read_json
        from nisf.prior.bundled import DEFAULT, FOLDER, model_names

        names = model_names()
        if self.name is not None:
            if self.name not in names:
                raise NoSuchModelError(f"{self.name}: no such model; there are {', '.join(names)}")
            print((FOLDER / self.name / "README.md").read_text(encoding="utf-8"), end="")
            return 0
        for name in names:
            data = read_json(FOLDER / name / "prior.json")
            megabytes = (FOLDER / name / "weights.safetensors").stat().st_size / 1e6
            structures = ", ".join(data["anatomy"]["labels"][1:])
            card = data["card"]
            default = "; the default" if name == DEFAULT else ""
            print(f"{name}: {structures} ({megabytes:.1f} MB{default})")
            print(f"  trained on {card['training']['subjects']} subjects; licence: {card['licence']}")
        print("nisf models NAME: what a model was trained on, how accurate it is, and where it fails")
        return 0
