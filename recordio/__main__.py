"""`python -m recordio`: the command line, where the script `recordio` is not on the path."""

from recordio.cli import main

if __name__ == "__main__":
    main()
