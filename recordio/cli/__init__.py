"""The command line: `recordio convert`, `inspect`, `verify` and others; also `python -m recordio`.

stdout is the answer and nothing else; progress, hints and errors go to stderr. click and rich are imported here and
nowhere else in recordio, and only when a command runs. The group and the exit status are in `app`, each command in a
module of its name (`convert_command`); what can be converted is listed in `sources`.
"""

from __future__ import annotations


def main() -> None:
    """Run the command line and exit with its status."""
    from recordio.cli.app import application

    application.main()
