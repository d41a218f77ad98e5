"""Frames as bytes: exactly one Zstandard frame of the stated size, and nothing that only looks like one."""

from __future__ import annotations

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from recordio.errors import MalformedError, TooNewError
from recordio.format.codec import CODEC_RAW, CODEC_ZSTD, MAX_LEVEL, compress_frames, decompress_into, max_stored_size
from tests.laws.data_sets import EXAMPLES

RAW = b"recordio " * 50
RANDOM = np.random.default_rng(0).bytes(400_000)


def compress(raw: bytes, level: int) -> bytes:
    (stored,) = compress_frames([raw], level)
    return bytes(stored)


def decode(stored: bytes, raw_size: int, codec: int = CODEC_ZSTD) -> bytes:
    target = bytearray(raw_size)
    decompress_into(memoryview(stored), memoryview(target), codec)
    return bytes(target)


@settings(max_examples=50 * EXAMPLES)
@given(raw=st.binary(min_size=1, max_size=2000), repeat=st.sampled_from([1, 3, 200]), level=st.integers(1, MAX_LEVEL))
def test_what_is_compressed_comes_back(raw: bytes, repeat: int, level: int) -> None:
    """At every level, within the bound for stored sizes (spec/format.md, section 10)."""
    whole = raw * repeat
    stored = compress(whole, level)
    assert decode(stored, len(whole)) == whole
    assert len(stored) <= max_stored_size(len(whole))


@settings(max_examples=20 * EXAMPLES)
@given(
    sizes=st.lists(st.sampled_from([0, 1, 255, 256, 5_000, 65_536, 70_000]), max_size=12),
    level=st.sampled_from([1, 3, 9]), is_random=st.booleans(),
)  # fmt: skip
def test_frames_compressed_together_have_the_bytes_that_each_has_alone(
    sizes: list[int], level: int, is_random: bool
) -> None:
    """The bytes of a file must not depend on how many frames a step takes (spec/format.md, section 5)."""
    source = RANDOM if is_random else RAW * 200
    raw = [source[:size] for size in sizes]
    assert [bytes(stored) for stored in compress_frames(raw, level)] == [compress(part, level) for part in raw]


@pytest.mark.parametrize("size", [1, 2, 255, 256, 65_535, 65_536, 131_072, 131_073, 400_000])
def test_incompressible_bytes_come_back(size: int) -> None:
    """Sizes around the limits of zstd's content size field and blocks."""
    stored = compress(RANDOM[:size], 3)
    assert decode(stored, size) == RANDOM[:size]
    assert len(stored) <= max_stored_size(size)


def test_other_writers_of_zstd_are_read() -> None:
    """A content checksum, several blocks, a streaming writer that knew the size."""
    for raw in (RAW, RANDOM, bytes(300_000)):
        for checksum in (False, True):
            packer = zstandard.ZstdCompressor(level=5, write_checksum=checksum).compressobj(size=len(raw))
            stored = b"".join([packer.compress(raw[:1000]), packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK),
                               packer.compress(raw[1000:]), packer.flush()])  # fmt: skip
            assert decode(stored, len(raw)) == raw


def hostile_frames() -> dict[str, tuple[bytes, int]]:
    """Stored bytes and the raw size that a directory states."""
    good = compress(RAW, 3)
    without_size = zstandard.ZstdCompressor(write_content_size=False).compress(RAW)
    dictionary = zstandard.ZstdCompressionDict(b"recordio " * 100)
    checked = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(RAW))
    checked[-1] ^= 1
    # Content size in four bytes, no single segment; window exponent 17, so 2**27 bytes; one raw block of 4 bytes.
    large_window = b"\x28\xb5\x2f\xfd\x80\x88\x04\0\0\0\x21\0\0abcd"
    return {
        "empty": (b"", len(RAW)),
        "nothing at all": (b"", 0),
        "no magic": (b"\0" + good[1:], len(RAW)),
        "a skippable frame": (b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + good, len(RAW)),
        "a byte after it": (good + b"\0", len(RAW)),
        "a frame after it": (good + good, len(RAW)),
        "an empty frame after it": (good + zstandard.ZstdCompressor().compress(b""), len(RAW)),
        "cut by a byte": (good[:-1], len(RAW)),
        "only its header": (good[:6], len(RAW)),
        "smaller than stated": (good, len(RAW) + 1),
        "larger than stated": (good, len(RAW) - 1),
        "no size": (without_size, len(RAW)),
        "a dictionary": (zstandard.ZstdCompressor(dict_data=dictionary).compress(RAW), len(RAW)),
        "a wrong checksum": (bytes(checked), len(RAW)),
        "an empty frame of an empty content": (zstandard.ZstdCompressor().compress(b""), 0),
        "a bomb": (compress(bytes(1 << 24), 3), 1000),
        "a window of 128 MiB": (large_window, 4),
    }


@pytest.mark.parametrize("what", hostile_frames())
def test_what_is_not_exactly_one_frame_is_malformed(what: str) -> None:
    """Codec zstd, section 5: one frame, of the size that the directory has, no byte more."""
    stored, raw_size = hostile_frames()[what]
    with pytest.raises(MalformedError):
        decode(stored, raw_size)


@settings(max_examples=300 * EXAMPLES)
@given(data=st.data())
def test_a_changed_frame_decodes_or_is_malformed(data: st.DataObject) -> None:
    """Whatever its checksum says: no other error, and never more or fewer bytes."""
    stored = bytearray(compress(RAW if data.draw(st.booleans()) else RANDOM[:3000], 3))
    for _ in range(data.draw(st.integers(1, 3))):
        stored[data.draw(st.integers(0, len(stored) - 1))] = data.draw(st.integers(0, 255))
    size = data.draw(st.sampled_from([len(RAW), 3000, 0, 1]))
    try:
        assert len(decode(bytes(stored), size)) == size
    except MalformedError:
        pass


def test_raw_frames_and_unknown_codecs() -> None:
    """Raw is raw, of the very size; a codec that is not known is too new."""
    assert decode(RAW, len(RAW), CODEC_RAW) == RAW
    assert decode(b"", 0, CODEC_RAW) == b""
    with pytest.raises(MalformedError):
        decode(RAW, len(RAW) + 1, CODEC_RAW)
    with pytest.raises(TooNewError):
        decode(RAW, len(RAW), 2)


def test_a_window_of_up_to_a_mebibyte_is_allowed() -> None:
    """Writers that stream state a window that is larger than a small content (section 5)."""
    frame = b"\x28\xb5\x2f\xfd\x80%c\x04\0\0\0\x21\0\0abcd"
    assert decode(frame % (10 << 3), 4) == b"abcd"  # 2**20 bytes
    with pytest.raises(MalformedError):
        decode(frame % (10 << 3 | 1), 4)
