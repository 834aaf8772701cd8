"""SimpleITK in its own process, which a broken file may crash; run by its path, independent of nisf.

It reads requests, one line of JSON each, until its input ends: ``{"path": ..., "voxels": false}``. The reply
is a line of JSON; for a request with voxels, ``nbytes`` bytes follow, x fastest.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any


def main() -> None:
    """Reply to requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # output of libraries is not part of the reply
    import SimpleITK as sitk  # noqa: N813

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    for line in sys.stdin.buffer:
        question = json.loads(line)
        voxels = b""
        try:
            if question["voxels"]:
                image = sitk.ReadImage(question["path"])  # owns the array's memory
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
    """The header of an image; ``dtype`` is None for types that NumPy does not have."""
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
