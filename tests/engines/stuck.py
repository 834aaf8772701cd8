"""Work that gets stuck in one case, so that a test can kill its process in the midst of it."""

import time
from dataclasses import dataclass

from nisf.engines import Work
from nisf.files import replacing
from nisf.stopwatch import stage

STAGE = "stuck"


@dataclass(frozen=True)
class Stuck(Work):
    """Holds the lock of the case, and has a draft in the folder, when it announces `STAGE`."""

    case: str = ""

    def request_of(self, case, say):
        if case.name == self.case:
            with replacing(self.folder / "draft.txt"), stage(STAGE):
                time.sleep(600)
        return super().request_of(case, say)
