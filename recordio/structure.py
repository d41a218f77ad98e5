"""Structures: nested tuples, lists and dicts with the ordinals of columns at their leaves.

    {"image": 0, "label": (1, 2)}       leaves numbered in order, depth first

Numbering a signature, taking a record apart and putting it together, the form on disk, projection. Leaves are opaque
here; what they are is said in `recordio.spec`, what they become in `recordio.schema`.

Spec: spec/format.md, sections 3 and 10.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from recordio.errors import MalformedError, SignatureError, SignatureTypeError
from recordio.format.layout import MAX_DEPTH
from recordio.spec import DTYPES, MsgpackSpec, TensorSpec, foreign_spec, is_text

Node = Any                      # an ordinal, or a tuple, list or dict of nodes
Parts = tuple[str | int, ...]   # where a node stands: keys and places, from the root

CONTAINERS = (tuple, list, dict)


def leaf_name(parts: Parts) -> str:
    """Name a leaf by its path from the root."""
    return "/".join(map(str, parts)) if parts else "value"


def container_name(parts: Parts) -> str | None:
    """Name a container by its path, for the place of an error; the whole record has no name."""
    return leaf_name(parts) if parts else None


def children(node: Any) -> Iterator[tuple[str | int, Any]]:
    """The entries of a tuple, list or dict, each with its place or key."""
    return iter(node.items() if isinstance(node, dict) else enumerate(node))


def leaf_paths(structure: Node, parts: Parts = ()) -> Iterator[Parts]:
    """The path of every leaf, in order."""
    if isinstance(structure, CONTAINERS):
        for part, child in children(structure):
            yield from leaf_paths(child, (*parts, part))
    else:
        yield parts


def rebuild(node: Any, parts: list[Any]) -> Any:
    """A plain container of the kind and keys of `node` (no subclass of it) with other contents."""
    if isinstance(node, dict):
        return dict(zip(node, parts, strict=True))
    return tuple(parts) if isinstance(node, tuple) else parts


def checked_key(key: Any, parts: Parts) -> str:
    """A dict key as it can be stored.

    Raises:
        SignatureError, SignatureTypeError: no str, or not UTF-8.
    """
    if not isinstance(key, str):
        raise SignatureTypeError(
            f"dict key {key!r} is of type {type(key).__name__}, not str", column=container_name(parts),
            advice="Only str keys can be columns; recordio.MsgpackSpec() stores a whole JSON-like object",
        )
    if not is_text(key):
        problem = f"dict key {key!r} has a lone surrogate, which UTF-8 cannot hold"
        raise SignatureError(problem, column=container_name(parts))
    return str.__str__(key)   # of a subclass (numpy.str_, a str Enum) only the text


def _dtype_in(value: Any) -> str:
    """The dtype that somebody meant who wrote its name, or a type of Python, for a spec."""
    name = value if isinstance(value, str) else getattr(value, "__name__", "")
    name = {"int": "int64", "float": "float64"}.get(name, name)
    return name if name in DTYPES else "int64"


def shown(value: Any) -> str:
    """A value for an error message: itself if it is small, else its type; never a long or a recursive repr."""
    if isinstance(value, int) and value.bit_length() > 128:   # Python refuses to print some of these
        return f"an int of {value.bit_length()} bits"
    if value is None or isinstance(value, int | float) or (isinstance(value, str | bytes) and len(value) <= 60):
        return repr(value)
    if isinstance(value, type):
        return f"the type {value.__name__}"
    return f"a value of type {type(value).__name__}"


def number_leaves(signature: Any) -> tuple[Node, list[tuple[Parts, TensorSpec | MsgpackSpec]]]:
    """Number the leaves of a signature.

    Returns:
        The structure of plain containers, and path and spec of every leaf in order.

    Raises:
        SignatureError: nested too deep, or a spec that breaks a limit.
        SignatureTypeError: a leaf that is no spec, or a key that is no str.
    """
    leaves: list[tuple[Parts, TensorSpec | MsgpackSpec]] = []

    def number(node: Any, parts: Parts) -> Node:
        if isinstance(node, CONTAINERS):
            if len(parts) >= MAX_DEPTH:
                raise SignatureError(f"signature is nested deeper than {MAX_DEPTH}", column=leaf_name(parts))
            if isinstance(node, dict):
                node = {checked_key(key, parts): child for key, child in node.items()}
            return rebuild(node, [number(child, (*parts, part)) for part, child in children(node)])
        leaves.append((parts, _spec_of(node, parts)))
        return len(leaves) - 1

    return number(signature, ()), leaves


def _spec_of(value: Any, parts: Parts) -> TensorSpec | MsgpackSpec:
    if isinstance(value, TensorSpec | MsgpackSpec):
        return value
    try:
        spec = foreign_spec(value)
    except SignatureError as error:
        raise error.locate(column=leaf_name(parts)) from None
    if spec is not None:
        return spec
    raise SignatureTypeError(
        f"{shown(value)} is no spec", column=leaf_name(parts),
        advice="Declare every leaf as recordio.TensorSpec(shape, dtype), "
        f"for example TensorSpec((), {_dtype_in(value)!r})",
    )


def encode_structure(node: Node) -> Any:
    """The msgpack form of a structure."""
    if isinstance(node, dict):
        return ["dict", [[key, encode_structure(child)] for key, child in node.items()]]
    if isinstance(node, CONTAINERS):
        return ["tuple" if isinstance(node, tuple) else "list", [encode_structure(child) for child in node]]
    return node


def decode_structure(encoded: Any) -> tuple[Node, list[Parts]]:
    """Read a structure from the untrusted value that msgpack gave.

    Returns:
        The structure, whose leaves are 0, 1, 2 ... in order, and the path of each.

    Raises:
        MalformedError: a rule of spec/format.md, section 3, is broken.
    """
    paths: list[Parts] = []

    def decode(value: Any, parts: Parts) -> Node:
        if type(value) is int:
            if value != len(paths):
                raise MalformedError(f"leaf {len(paths)} of the schema is column {value}: leaves stand in column order")
            paths.append(parts)
            return value
        if not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], list):
            raise MalformedError(f"node {leaf_name(parts)!r} of the schema is neither a leaf nor a container")
        # Before going down: nesting in a damaged schema must not become recursion.
        if len(parts) >= MAX_DEPTH:
            raise MalformedError(f"structure of the schema is nested deeper than {MAX_DEPTH}")
        kind, entries = value
        if kind == "dict":
            return decode_dict(entries, parts)
        if kind == "tuple" or kind == "list":
            nodes = [decode(entry, (*parts, place)) for place, entry in enumerate(entries)]
            return tuple(nodes) if kind == "tuple" else nodes
        raise MalformedError(f"node {leaf_name(parts)!r} of the schema is of unknown kind {shown(kind)}")

    def decode_dict(entries: list[Any], parts: Parts) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for entry in entries:
            if not isinstance(entry, list) or len(entry) != 2 or not isinstance(entry[0], str):
                raise MalformedError(f"dict {leaf_name(parts)!r} of the schema has an entry that is no [key, node]")
            if entry[0] in found:
                raise MalformedError(f"dict {leaf_name(parts)!r} of the schema has the key {entry[0]!r} twice")
            found[entry[0]] = decode(entry[1], (*parts, entry[0]))
        return found

    return decode(encoded, ()), paths


_DROPPED = object()


def project(structure: Node, places: Mapping[int, int]) -> Node:
    """Keep the leaves that `places` renumbers and the containers that still hold one."""

    def keep(node: Node) -> Any:
        if not isinstance(node, CONTAINERS):
            return places.get(node, _DROPPED)
        entries = [(part, keep(child)) for part, child in children(node)]
        kept = [(part, child) for part, child in entries if child is not _DROPPED]
        if not kept:
            return _DROPPED
        return dict(kept) if isinstance(node, dict) else rebuild(node, [child for _part, child in kept])

    return keep(structure)


class Mismatch(Exception):
    """A record does not fit; `flatten_checked` says why."""


def compile_flatten(node: Node) -> Callable[[Any, list[Any]], None]:
    """Make the function that appends the leaves of a record to a list, for records of plain containers.

    It raises `Mismatch` or KeyError where it is not certain that a record fits, and has then appended any number of
    leaves: it is called once per record and spends nothing on reasons.
    """
    if not isinstance(node, CONTAINERS):
        return lambda record, leaves: leaves.append(record)
    if isinstance(node, dict):
        return _compile_flatten_dict(node)
    kind, size = type(node), len(node)
    if all(isinstance(child, int) for child in node):

        def flatten_flat(record: Any, leaves: list[Any]) -> None:
            if not isinstance(record, kind) or len(record) != size:
                raise Mismatch
            leaves.extend(record)

        return flatten_flat
    steps = [compile_flatten(child) for child in node]

    def flatten_nested(record: Any, leaves: list[Any]) -> None:
        if not isinstance(record, kind) or len(record) != size:
            raise Mismatch
        for step, child in zip(steps, record):
            step(child, leaves)

    return flatten_nested


def _compile_flatten_dict(node: dict[str, Node]) -> Callable[[Any, list[Any]], None]:
    keys, size = list(node), len(node)
    # `type(...) is dict`: looking up a missing key of a defaultdict would put it there.
    if len(keys) > 1 and all(isinstance(child, int) for child in node.values()):
        get = itemgetter(*keys)

        def flatten_flat(record: Any, leaves: list[Any]) -> None:
            if type(record) is not dict or len(record) != size:
                raise Mismatch
            leaves.extend(get(record))

        return flatten_flat
    steps = [(key, compile_flatten(child)) for key, child in node.items()]

    def flatten_nested(record: Any, leaves: list[Any]) -> None:
        if type(record) is not dict or len(record) != size:
            raise Mismatch
        for key, step in steps:
            step(record[key], leaves)

    return flatten_nested


def flatten_checked(structure: Node, record: Any, record_number: int | None) -> list[Any]:
    """Take a record apart slowly, and say exactly what does not fit."""
    leaves: list[Any] = []

    def walk(node: Node, value: Any, parts: Parts) -> None:
        if not isinstance(node, CONTAINERS):
            leaves.append(value)
            return
        where: dict[str, Any] = {"column": container_name(parts), "record": record_number}
        if not isinstance(value, type(node)):
            raise SignatureTypeError(
                f"expected {_container(node)}, got {_container(value)}", advice=_container_advice(node, value), **where
            )
        if isinstance(node, dict):
            missing = [key for key in node if key not in value]
            extra = [key for key in value if key not in node]
            if missing or extra:
                problem = f"missing {_listed(missing)}" if missing else ""
                problem += ", " if missing and extra else ""
                problem += f"unexpected {_listed(extra)}" if extra else ""
                raise SignatureError(
                    f"{problem}: expected the keys {_listed(list(node))}, got {_listed(list(value))}",
                    advice="Keep the records and the signature to the same keys", **where,
                )
        elif len(value) != len(node):
            raise SignatureError(f"expected {_container(node)}, got {_container(value)}", **where)
        contents: Any = value
        for part, child in children(node):
            walk(child, contents[part], (*parts, part))

    walk(structure, record, ())
    return leaves


def compile_unflatten(node: Node) -> Callable[[Sequence[Any]], Any]:
    """Make the function that puts a sequence of leaves into fresh containers."""
    if not isinstance(node, CONTAINERS):
        return itemgetter(node)
    entries = [child for _part, child in children(node)]
    if entries and all(isinstance(child, int) for child in entries):
        # Leaves are numbered in order, so those of one flat container stand side by side.
        span = slice(entries[0], entries[-1] + 1)
        if isinstance(node, dict):
            keys = tuple(node)
            return lambda leaves: dict(zip(keys, leaves[span], strict=True))
        kind: type[Any] = type(node)
        return lambda leaves: kind(leaves[span])
    steps = [compile_unflatten(child) for child in entries]
    if isinstance(node, dict):
        pairs = list(zip(node, steps))
        return lambda leaves: {key: step(leaves) for key, step in pairs}
    if isinstance(node, tuple):
        return lambda leaves: tuple([step(leaves) for step in steps])
    return lambda leaves: [step(leaves) for step in steps]


def _container(value: Any) -> str:
    if isinstance(value, dict):
        return f"a dict with the keys {_listed(list(value))}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return shown(value)


def _container_advice(node: Node, value: Any) -> str:
    if isinstance(node, dict) and hasattr(value, "keys"):
        return "Make it a dict: dict(record)"
    if isinstance(node, tuple | list) and isinstance(value, tuple | list):
        return f"The signature has a {type(node).__name__} here: change one of the two"
    return "Make the records and the signature the same structure"


def _listed(keys: list[Any]) -> str:
    shown = ", ".join(map(repr, keys[:20]))
    return f"{shown} and {len(keys) - 20} more" if len(keys) > 20 else shown or "none"
