"""``nisf view``: a page that queries a subject's field for any plane at any time."""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

if TYPE_CHECKING:
    from nisf.view.library import Library


@dataclass(frozen=True)
class View:
    """Open subjects (NAME.nisf files or their folder) or scans, which are segmented first, in the browser.

    The page shows any plane at any time, surfaces and volumes. It is served to this machine only, at an
    address with a secret token, until you press Ctrl-C.
    """

    inputs: Annotated[Positional[tuple[Path, ...]], arg(metavar="INPUT")]
    """Files of subjects, folders of such files, or scans (files, case folders, cohort folders)."""
    prior: str | None = None
    """For scans: the prior or model to segment with. For subjects: their prior, if it has moved."""
    scan: Path | None = None
    """Images of a single subject, if they have moved since it was segmented."""
    region: Literal["auto", "finder", "motion", "centre", "whole"] = "auto"
    """For scans: how to find the region of interest."""
    host: str = "127.0.0.1"
    """Address to listen on. Unless it is the loopback address, everyone on the network who knows the page's
    address can see the images."""
    port: int = 0
    """Port to listen on; 0 chooses a free one."""
    no_browser: bool = False
    """Print the address without opening a browser."""
    once: bool = False
    """Open the first case, compute one plane and exit: a test whether the viewer works here."""

    static: Path | None = None
    """Write the page of a single case to this .html file instead. It needs no server, because the decoder
    runs in the browser (image-conditioned subjects only). The file contains the images."""
    most_mb: float = 15.0
    """With --static: maximum file size in MB; as many phases are included as fit."""
    overwrite: bool = False
    """With --static: replace an existing file even if nisf did not write it."""

    def run(self) -> int:
        from nisf.errors import BadSettingError
        from nisf.segmentation import Request
        from nisf.view.library import library_of

        if not self.inputs:
            raise BadSettingError("no input; give a subject (NAME.nisf), a folder of subjects, or a scan")
        if not 0 <= self.port < 65536:
            raise BadSettingError(f"--port {self.port}: give a number from 0 to 65535")
        library = library_of(self.inputs, self.prior, self.scan, Request(find=self.region))
        if self.scan is not None and len(library.entries) != 1:
            raise BadSettingError("--scan: goes with a single subject")
        if self.static is not None:
            self.write(library, self.static)
            return 0
        if self.once:
            print(f"answered a plane of {answer_once(library)}")
            return 0
        self.serve(library)
        return 0

    def write(self, library: Library, path: Path) -> None:
        """Write the page of a single case as one file.

        Raises:
            BadSettingError: its name or size is invalid, or there are several cases.
            CannotFitError: the subject's kind has no decoder for browsers.
        """
        from nisf.errors import BadSettingError
        from nisf.view.static import write_static

        if path.suffix != ".html":
            raise BadSettingError(f"--static {path}: name it .html")
        if len(library.entries) != 1:
            raise BadSettingError("--static: goes with a single subject or scan")
        if not self.most_mb > 0:
            raise BadSettingError(f"--most-mb {self.most_mb:g}: give a positive number")
        for _ in library.opening(0):
            pass
        made = write_static(library.viewed(0), path, self.most_mb, overwrite=self.overwrite)
        kept, every = made.phases
        print(
            f"wrote {path}: {len(made.file) / 1e6:.1f} MB, {kept} of {every} phases, "
            f"answers within {made.error:.1e} of Python's where compared"
        )

    def serve(self, library: Library) -> None:
        """Serve the page until Ctrl-C, which is how it is meant to end.

        Raises:
            BadSettingError: the server's packages are not installed, or the address cannot be used.
        """
        from nisf.errors import BadSettingError
        from nisf.interrupts import caught, ignore

        try:
            from nisf.view.server import LOOPBACK, Viewer, serve
        except ModuleNotFoundError as error:
            raise BadSettingError(
                f"nisf view needs the package {error.name}: pip install 'nisf[view]'"
            ) from error

        def ready(address: str) -> None:
            if self.host not in LOOPBACK:
                print(
                    "warning: everyone on the network with this address can see the images", file=sys.stderr
                )
            print(f"nisf view: {address}\nCtrl-C ends it.", flush=True)
            if not self.no_browser:
                import webbrowser

                webbrowser.open(address)

        try:
            serve(Viewer(library), self.host, self.port, ready)
        except KeyboardInterrupt:
            if caught() != signal.SIGINT:
                raise
            ignore()
            print("nisf view: ended")


def answer_once(library: Library) -> str:
    """Open the first case and answer a small plane of it; returns its name."""
    from nisf.view.questions import PlaneQuestion
    from nisf.view.worker import Step

    for _ in library.opening(0):
        pass
    viewed = library.viewed(0)
    x, y = viewed.subject.region.pose.matrix[:2, :3]
    question = PlaneQuestion("once", viewed.subject.region.centre(), x, y, 2.0, 64, 64, 0.0)
    for answer in viewed.plane(question):
        if answer is Step.WAITS:
            break
    return viewed.subject.name
