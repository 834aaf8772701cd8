"""The one exception that users see as a sentence instead of a traceback, and how a program ends with it."""

from __future__ import annotations

import sys
from collections.abc import Callable


class NisfError(Exception):
    """Something the user can mend: the message names the file, the value found and what to do."""


def exit_status(program: str, run: Callable[[], int]) -> int:
    """What ``run`` returns; 2 after an error that the user can mend, which is told; 130 if interrupted."""
    try:
        return run()
    except NisfError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{program}: interrupted; what was finished is kept", file=sys.stderr)
        return 130
