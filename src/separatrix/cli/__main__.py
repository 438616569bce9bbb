"""`python -m separatrix.cli`."""

import sys

from separatrix.cli.program import main

if __name__ == "__main__":
    sys.exit(main())
