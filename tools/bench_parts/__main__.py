"""What `tools/bench` runs."""

import sys

from bench_parts.command import main

if __name__ == "__main__":
    sys.exit(main())
