"""`python -m radlearn` is the command line."""

import sys

from radlearn.cli import main

sys.exit(main())
