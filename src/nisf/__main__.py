"""``python -m nisf``."""

import sys

from nisf.cli import main

sys.exit(main())
