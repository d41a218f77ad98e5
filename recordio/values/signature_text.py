"""Signatures as text, for command lines and listings.

    {"image": uint8[28, 28], "label": int64}         a dict of two leaves
    (float32[?], msgpack)                            a tuple; [a, b] is a list
    {"words": str[?], "note": str?, "any": int8[...]}

    dtype            a scalar            dtype[28, 28]    a shape; ? is a dimension that varies
    dtype[...]       unknown rank        dtype[3]?        may be None
    dtype as "name"  a column with a name of its own

Keys may be bare words. A leaf may stand in quotes, so that JSON will do: {"image": "uint8[28,28]"}. Text is parsed,
never evaluated.
"""

from __future__ import annotations

import difflib
import json
import re
from typing import Any, NoReturn

from recordio.errors import SignatureError
from recordio.format.layout import MAX_DEPTH
from recordio.spec import DTYPES, MsgpackSpec, TensorSpec

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"[0-9]+")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'[^\'\\]*\'')
_SPACE = re.compile(r"\s*")


def parse_signature(text: str) -> Any:
    """Read a signature.

    Raises:
        SignatureError: it is not one; the message points at the character.
    """
    parser = _Parser(text)
    node = parser.node(0)
    if parser.peek():
        parser.fail(f"nothing can follow here, found {parser.peek()!r}")
    return node


def format_signature(spec: Any) -> str:
    """Write a structure of specs so that `parse_signature` gives it back."""
    if isinstance(spec, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {format_signature(value)}" for key, value in spec.items()) + "}"
    if isinstance(spec, tuple):
        inside = ", ".join(map(format_signature, spec))
        return f"({inside},)" if len(spec) == 1 else f"({inside})"
    if isinstance(spec, list):
        return "[" + ", ".join(map(format_signature, spec)) + "]"
    name = "" if spec.name is None else f" as {json.dumps(spec.name)}"
    return format_leaf(spec.dtype, spec.shape, spec.optional) + name


def format_leaf(dtype: str, shape: tuple[int | None, ...] | None, optional: bool) -> str:
    """The type of one leaf: "uint8[28, 28]", "str[?]", "float32[...]?"."""
    if shape is None:
        dims = "[...]"
    else:
        dims = f"[{', '.join('?' if dim is None else str(dim) for dim in shape)}]" if shape else ""
    return f"{dtype}{dims}{'?' if optional else ''}"


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.place = 0

    def node(self, depth: int) -> Any:
        if depth > MAX_DEPTH:
            self.fail(f"nested deeper than {MAX_DEPTH}")
        sign = self.peek()
        if sign == "{":
            return self.dict(depth)
        if sign == "[":
            return self.entries("]", depth)
        if sign == "(":
            return tuple(self.entries(")", depth))
        if sign in ('"', "'"):
            start = self.place
            quoted = self.quoted()
            inner = _Parser(quoted)
            try:
                leaf = inner.leaf()
                if inner.peek():
                    inner.fail("nothing can follow a leaf")
            except SignatureError as error:
                what = error.message.split(" at character ")[0]
                self.fail(what, start, error.advice)
            return leaf
        return self.leaf()

    def dict(self, depth: int) -> dict[str, Any]:
        self.expect("{")
        found: dict[str, Any] = {}
        while self.peek() != "}":
            start = self.place
            key = self.quoted() if self.peek() in ('"', "'") else self.word("a key")
            if key in found:
                self.fail(f"the key {key!r} stands there twice", start)
            self.expect(":")
            found[key] = self.node(depth + 1)
            if self.peek() != "}":
                self.expect(",", "}")
        self.expect("}")
        return found

    def entries(self, end: str, depth: int) -> list[Any]:
        self.place += 1
        found = []
        while self.peek() != end:
            found.append(self.node(depth + 1))
            if self.peek() != end:
                self.expect(",", end)
        self.expect(end)
        return found

    def leaf(self) -> TensorSpec | MsgpackSpec:
        self.peek()
        start = self.place
        dtype = self.word("a data type")
        if dtype not in DTYPES:
            close = difflib.get_close_matches(dtype, DTYPES, n=1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Data types: {', '.join(DTYPES)}"
            if dtype == "string":
                hint = "Say str for text (UTF-8), or bytes"
            self.fail(f"there is no data type {dtype!r}", start, hint)
        shape: tuple[int | None, ...] | None = ()
        if self.peek() == "[":
            shape = self.dims()
        optional = self.peek() == "?"
        self.place += optional
        name = None
        if self.peek().isalpha():
            if self.word("'as'") != "as":
                self.fail("only 'as \"name\"' can follow a leaf")
            name = self.quoted() if self.peek() in ('"', "'") else self.word("a name")
        if dtype == "msgpack":
            if shape != () or optional:
                self.fail("msgpack has no shape and is never optional: None is a value of it", start)
            return MsgpackSpec(name)
        try:
            return TensorSpec(shape, dtype, name, optional)
        except SignatureError as error:
            self.fail(error.message, start, error.advice)

    def dims(self) -> tuple[int | None, ...] | None:
        self.expect("[")
        self.peek()
        if self.text.startswith("...", self.place):
            self.place += 3
            self.expect("]")
            return None
        found: list[int | None] = []
        while self.peek() != "]":
            if self.peek() == "?":
                self.place += 1
                found.append(None)
            else:
                number = _NUMBER.match(self.text, self.place)
                if number is None or len(number[0]) > 18:
                    self.fail("a dimension is a number or ?")
                self.place = number.end()
                found.append(int(number[0]))
            if self.peek() != "]":
                self.expect(",", "]")
        self.expect("]")
        return tuple(found)

    def peek(self) -> str:
        space = _SPACE.match(self.text, self.place)
        assert space is not None
        self.place = space.end()
        return self.text[self.place : self.place + 1]

    def expect(self, sign: str, *others: str) -> None:
        if self.peek() != sign:
            wanted = " or ".join(repr(one) for one in (sign, *others))
            found = self.peek()
            self.fail(f"{wanted} is expected, found {found!r}" if found else f"{wanted} is missing at the end")
        self.place += 1

    def word(self, what: str) -> str:
        self.peek()
        word = _WORD.match(self.text, self.place)
        if word is None:
            found = self.peek()
            self.fail(f"{what} is expected, found {found!r}" if found else f"{what} is missing at the end")
        self.place = word.end()
        return word[0]

    def quoted(self) -> str:
        start = self.place
        found = _QUOTED.match(self.text, self.place)
        if found is None:
            self.fail("a quotation mark is not closed")
        self.place = found.end()
        if found[0][0] == "'":
            return found[0][1:-1]
        try:
            text = json.loads(found[0])
        except ValueError:
            self.fail("this is no JSON string", start)
        assert isinstance(text, str)
        return text

    def pointer(self, place: int) -> str:
        return f"at character {place + 1}:\n  {self.text}\n  {' ' * place}^"

    def fail(self, message: str, place: int | None = None, advice: str | None = None) -> NoReturn:
        where = self.pointer(self.place if place is None else place)
        raise SignatureError(f"{message} {where}", advice=advice)
