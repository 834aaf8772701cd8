"""``nisf export``: the networks as ONNX files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


@dataclass(frozen=True)
class Export:
    """Write the network of a subject (NAME.nisf) or of a prior as an ONNX file, for other programs.

    The network of a subject takes positions in world mm; for a prior of the kind image, the file contains the
    encoded slices of one measured phase. The network of a prior takes the latent or the encoded slices as
    inputs too; --encoder writes the network that encodes slices. Fragments (islands) are not removed from the
    answers. Each file is run in ONNX Runtime and compared with PyTorch before it is written. Needs: pip
    install 'nisf[export]'.
    """

    source: Annotated[Positional[str], arg(metavar="SUBJECT|PRIOR")]
    """File of a subject, folder of a prior, or the name of a model."""
    output: Annotated[Path, arg(aliases=["-o"])]
    """File to write, NAME.onnx."""
    prior: Path | None = None
    """With a subject: folder of its prior, if it has moved."""
    time: float = 0.0
    """With a subject of the kind image: write the measured phase nearest to this fraction of the cycle."""
    encoder: bool = False
    """With a prior of the kind image: write the encoder, which turns slices into inputs of the decoder."""
    overwrite: bool = False
    """Replace an existing file even if nisf did not write it."""

    def run(self) -> int:
        from nisf.errors import BadSettingError
        from nisf.export.onnx_file import write_onnx
        from nisf.kinds.load import load_prior, read_subject
        from nisf.outputs import Made, recorded_file

        if self.output.suffix != ".onnx":
            raise BadSettingError(f"{self.output}: name the output .onnx")
        if not 0 <= self.time <= 1:
            raise BadSettingError(f"--time {self.time:g}: give a fraction of the cycle, 0 to 1")
        if self.source.endswith(".nisf"):
            if self.encoder:
                raise BadSettingError("--encoder: goes with a prior")
            subject = read_subject(Path(self.source), self.prior)
            prior, exportable = subject.prior, subject.exportable(self.time)
        else:
            if self.prior is not None:
                raise BadSettingError("--prior: goes with a subject")
            prior = load_prior(self.source)
            exportable = prior.exportable_encoder() if self.encoder else prior.exportable()
        made = Made(prior=prior.fingerprint)
        with recorded_file(self.output, "export", made=made, overwrite=self.overwrite):
            away = write_onnx(self.output, exportable, prior.anatomy.labels)
        size = self.output.stat().st_size / 1e6
        print(
            f"wrote {self.output}: {size:.1f} MB, inputs {', '.join(exportable.inputs)}; "
            f"ONNX Runtime's answers are within {away:.0e} of PyTorch's"
        )
        return 0
