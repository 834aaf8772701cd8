"""``python -m nisf``, and the command ``nisf``."""

import signal
import sys

from nisf.interrupts import caught, ignore, listen


def main() -> int:
    """The command line; from its first import on, an interrupt ends it with one line."""
    listen()
    try:
        from nisf.cli import main as run

        return run()
    except BaseException:
        number = caught()
        if number is None:
            raise
        ignore()
        sys.stderr.write("nisf: interrupted\n" if number == signal.SIGINT else "nisf: terminated\n")
        return 128 + number


if __name__ == "__main__":
    sys.exit(main())
