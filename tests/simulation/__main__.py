"""`python -m tests.simulation --seed 123`"""

import sys

from tests.simulation.command import main

if __name__ == "__main__":
    sys.exit(main())
