"""`python -m llmtop` is `llmtop`."""

import sys

from llmtop.cli import main

sys.exit(main())
