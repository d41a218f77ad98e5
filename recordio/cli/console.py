"""What stands on the terminal: streams that may go away, text that cannot do harm, tables.

What comes from a file is untrusted: a column may be called "\\x1b]0;..." or "[red]". All of it goes through
`printable`, and markup is switched off.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

_PLAIN_WIDTH = 1 << 16  # columns of what is no terminal: nothing is cut
_MIN_MIDDLE = 12  # columns that are left of a text whose middle goes


class PatientStream:
    """A text stream that swallows what is written after its reader has gone, as in `recordio inspect | head -1`.

    The work goes on, and the exit status stays that of the work; on stderr, whatever is wrong with it. An answer that
    cannot be written for another reason is an error.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._forgiven = OSError if stream is sys.stderr else BrokenPipeError
        self.encoding = getattr(stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except self._forgiven:
            self._give_up()
        except UnicodeEncodeError:
            encoding = self.encoding
            return self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except self._forgiven:
            self._give_up()
        except OSError:
            self._give_up()
            raise

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def _give_up(self) -> None:
        # So that the interpreter, which flushes at its end, does not complain.
        with contextlib.suppress(OSError, ValueError):
            devnull = os.open(os.devnull, os.O_WRONLY)
            os.dup2(devnull, self._stream.fileno())
            os.close(devnull)


def answer_console() -> Console:
    """stdout."""
    return _console(sys.stdout)


def side_console() -> Console:
    """stderr, for everything but the answer."""
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    terminal = stream.isatty()
    return Console(
        file=PatientStream(stream),  # type: ignore[arg-type]  # all that rich needs of a file
        markup=False, emoji=False, highlight=False, soft_wrap=True, width=None if terminal else _PLAIN_WIDTH,
    )  # fmt: skip


def printable(text: object, limit: int | None = None) -> str:
    """Text on one line that shows what cannot be printed (control characters, line ends, overrides of direction)."""
    shown = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in str(text))
    if limit is not None and cell_len(shown) > limit:
        return set_cell_size(shown[:limit], limit - 1).rstrip() + "…"
    return shown


def print_json(console: Console, value: Any) -> None:
    """One JSON document; everything beyond ASCII is escaped."""
    console.print(Text(json.dumps(value, indent=2)), soft_wrap=True)


def print_table(
    console: Console, headers: Sequence[str], rows: Iterable[Sequence[str | Text]], *, right: Sequence[int] = (),
    widths: Sequence[int] | None = None, middle: int | None = None, indent: int = 0,
) -> None:  # fmt: skip
    """Aligned columns; the last one is cut at the edge of a terminal.

    Args:
        right: ordinals of columns that stand at the right.
        widths: of the columns, if rows are too many to be looked at first; they are then printed as they come.
        middle: ordinal of a column whose texts lose their middle where a terminal is too narrow.
    """
    if widths is None:
        rows = [list(row) for row in rows]
        widths = [max(map(_width, column)) for column in zip(headers, *rows, strict=True)]
        if middle is not None and console.is_terminal:
            excess = indent + sum(widths) + 2 * (len(widths) - 1) - console.width
            widths[middle] = min(widths[middle], max(_MIN_MIDDLE, widths[middle] - excess))
            rows = [[_without_middle(cell, widths[middle]) if n == middle else cell for n, cell in enumerate(row)]
                    for row in rows]  # fmt: skip
    last = len(headers) - 1

    def line(cells: Sequence[str | Text], style: str) -> Text:
        text = Text(" " * indent)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True)):
            styled = cell if isinstance(cell, Text) else Text(cell, style=style)
            pad = " " * max(0, width - styled.cell_len)
            if place in right:
                text.append(pad)
            text.append_text(styled)
            if place not in right and place != last:
                text.append(pad)
            if place != last:
                text.append("  ")
        text.rstrip()
        if console.is_terminal:
            text.truncate(console.width, overflow="ellipsis")
        return text

    console.print(line(headers, "dim"))
    for row in rows:
        console.print(line(row, ""))


def _without_middle(cell: str | Text, width: int) -> str | Text:
    text = str(cell)
    return text if cell_len(text) <= width else f"{text[: width // 2 - 1]}…{text[-(width - width // 2) :]}"


def _width(cell: str | Text) -> int:
    return cell.cell_len if isinstance(cell, Text) else cell_len(cell)
