"""Signatures as text: what is written comes back, and what is wrong is pointed at."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordio.errors import SignatureError
from recordio.spec import DTYPES, MsgpackSpec, TensorSpec
from recordio.values.signature_text import format_signature, parse_signature


@pytest.mark.parametrize(("text", "spec"), [
    ("int64", TensorSpec((), "int64")),
    ("uint8[28,28]", TensorSpec((28, 28), "uint8")),
    ("str[?]", TensorSpec((None,), "str")),
    ("float32[...]", TensorSpec(None, "float32")),
    ("float32[3]?", TensorSpec((3,), "float32", optional=True)),
    ("float32 ?", TensorSpec((), "float32", optional=True)),
    ("int8[]", TensorSpec((), "int8")),
    ("msgpack", MsgpackSpec()),
    ('int8 as "my column"', TensorSpec((), "int8", name="my column")),
    ("{image: uint8[2], 'label': int64,}", {"image": TensorSpec((2,), "uint8"), "label": TensorSpec((), "int64")}),
    ("(int8,)", (TensorSpec((), "int8"),)),
    ("(int8)", (TensorSpec((), "int8"),)),
    ("[int8, (str, {})]", [TensorSpec((), "int8"), (TensorSpec((), "str"), {})]),
    ('{"a": "uint8[28, 28]", "b": ["str?"]}', {"a": TensorSpec((28, 28), "uint8"),
                                              "b": [TensorSpec((), "str", optional=True)]}),
])  # fmt: skip
def test_text_means_a_signature(text, spec):
    """The forms that the head of the module lists."""
    found = parse_signature(text)
    assert found == spec and type(found) is type(spec)


@pytest.mark.parametrize(("text", "place", "hint"), [
    ("{image: uin8}", 9, "'uint8'"),
    ('{"a": "uin8"}', 7, "'uint8'"),
    ("string", 1, "str for text"),
    ("{a: int8, a: int8}", 11, None),
    ("int8[-1]", 6, None),
    ("int8[3", 7, None),
    ("{a: int8", 9, None),
    ('{"a: int8}', 2, None),
    ("int8 int8", 10, None),
    ("int8)", 5, None),
    ("msgpack[3]", 1, None),
    ("uint8[9999999999]", 1, None),
    ("__import__('os')", 1, None),
    ("", 1, None),
    ("[" * 50, 34, None),
    ("int8[" + "9" * 5000 + "]", 6, None),
])  # fmt: skip
def test_what_is_wrong_is_pointed_at(text, place, hint):
    """The message gives the character, and a caret under it; a near name is suggested."""
    with pytest.raises(SignatureError) as raised:
        parse_signature(text)
    assert f"at character {place}:" in raised.value.message
    assert hint is None or hint in raised.value.advice


_NAMES = st.none() | st.text(min_size=1, max_size=5).filter(lambda name: name.isprintable())
_LEAVES = st.builds(
    TensorSpec, st.none() | st.lists(st.none() | st.integers(0, 9), max_size=3).map(tuple),
    st.sampled_from(sorted(set(DTYPES) - {"msgpack"})), _NAMES, st.booleans(),
) | st.builds(MsgpackSpec, _NAMES)  # fmt: skip
_SPECS = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3)
    | st.lists(inner, max_size=3).map(tuple)
    | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), max_size=4), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(_SPECS)
def test_every_signature_comes_back(spec):
    """What is formatted is parsed to the same structure, with the order of its keys."""
    found = parse_signature(format_signature(spec))
    assert found == spec and repr(found) == repr(spec)


@given(st.text(max_size=30) | st.text("{}[]()\"':,?.asint8 ", max_size=30))
def test_any_text_is_a_signature_or_a_located_error(text):
    """There is no third outcome."""
    try:
        parse_signature(text)
    except SignatureError as error:
        assert "at character" in error.message


def test_json_is_a_form_of_it():
    """What a program writes with a JSON library is read."""
    text = json.dumps({"image": "uint8[28, 28]", "pair": ["int64", "str?"]}, indent=2)
    assert format_signature(parse_signature(text)) == '{"image": uint8[28, 28], "pair": [int64, str?]}'
