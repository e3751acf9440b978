"""``python -m medfpl`` is the command line."""

import sys

from medfpl.cli.start import main

sys.exit(main())
