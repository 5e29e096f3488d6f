"""`python -m mlps.engine` is `mlps`."""

import sys

from .cli import main

sys.exit(main())
