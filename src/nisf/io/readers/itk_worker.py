"""SimpleITK in a process of its own, which a broken file may end: run by its path, and nothing of nisf's.

It answers questions, a line of JSON each, until nobody asks any more: ``{"path": ..., "voxels": false}``. The
answer is a line of JSON; after that of a question for voxels follow ``nbytes`` bytes, x fastest.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any


def main() -> None:
    """Answer until the questions end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever asks
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    import SimpleITK as sitk  # noqa: N813

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    for line in sys.stdin.buffer:
        question = json.loads(line)
        voxels = b""
        try:
            if question["voxels"]:
                image = sitk.ReadImage(question["path"])  # which owns what the array shows
                array = sitk.GetArrayViewFromImage(image)
                voxels = array.data.cast("B")
                said: dict[str, Any] = {"dtype": array.dtype.name, "nbytes": len(voxels)}
            else:
                said = information(sitk, question["path"])
        except (RuntimeError, MemoryError) as error:
            said = {"error": str(error).strip().splitlines()[-1] if str(error).strip() else "no memory"}
        answers.write(json.dumps(said).encode() + b"\n")
        answers.write(voxels)
        answers.flush()


def information(sitk: Any, path: str) -> dict[str, Any]:
    """What the header of an image says; ``dtype`` is None for numbers that are none of NumPy's."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    reader.ReadImageInformation()
    names = [f"{kind}Int{bits}" for kind in ("", "U") for bits in (8, 16, 32, 64)] + ["Float32", "Float64"]
    dtypes = {getattr(sitk, f"sitk{name}"): name.lower() for name in names}
    return {
        "size": reader.GetSize(),
        "spacing": reader.GetSpacing(),
        "origin": reader.GetOrigin(),
        "direction": reader.GetDirection(),
        "components": reader.GetNumberOfComponents(),
        "dtype": dtypes.get(reader.GetPixelID()),
    }


if __name__ == "__main__":
    main()
