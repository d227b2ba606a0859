"""``python -m blockrag``."""

import sys

from blockrag.cli import main

sys.exit(main())
