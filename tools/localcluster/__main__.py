"""Makes `python -m tools.localcluster` the command line of the local cluster."""

import sys

from tools.localcluster.commands import main

sys.exit(main())
