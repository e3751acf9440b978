"""``python -m medfpl`` is the command line."""

import sys

from medfpl.cli.app import main

sys.exit(main())
