"""One frame: raw bytes <-> stored bytes.

A frame is stored raw or as exactly one Zstandard frame of known size. Decompression goes into the caller's buffer, so
nothing is allocated that a file asks for. Compression contexts are one per thread: sharing one gives random results.

Spec: spec/format.md, section 5. Zstandard frames: RFC 8878.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Sequence
from functools import cache, lru_cache

import zstandard

from recordio.errors import MalformedError, TooNewError
from recordio.format.checksum import Buffer
from recordio.format.layout import Ints

CODEC_RAW = 0
CODEC_ZSTD = 1
CODEC_NAMES = {CODEC_RAW: "none", CODEC_ZSTD: "zstd"}
ENCODING_PLAIN = 0
NARROW_SIZES = (1, 2, 4)  # integers stored in so many bytes, whatever their dtype has
WITHOUT_SIGN = 8  # added to these: integers of a signed dtype that are not negative, stored without a sign
DICTIONARY = 16  # added to any of the above, once or twice: places of 1 or 2 bytes in a list of values stored so
BASE_ENCODINGS = (ENCODING_PLAIN, *NARROW_SIZES, *(WITHOUT_SIGN + size for size in NARROW_SIZES))
PLACE_SIZES = (1, 2)
ENCODINGS = frozenset(base + DICTIONARY * size for base in BASE_ENCODINGS for size in (0, *PLACE_SIZES))

MAX_SPARE_WINDOW = 1 << 20  # bytes; the window of a frame may be as large as its content, or this

DEFAULT_LEVEL = 1
MAX_LEVEL = 22

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_DICTIONARY_ID_SIZES = (0, 1, 2, 4)
_CONTENT_SIZE_SIZES = (0, 2, 4, 8)
_RLE_BLOCK, _RESERVED_BLOCK = 1, 3
_LAST_COMPRESSED_BLOCK = 1 | 2 << 1  # the low three bits of a block header
# Frames of up to so many bytes are decoded at once and then copied: a stream into their place saves the copy, but takes
# the GIL for each frame, which costs as much where two threads decode. Larger ones are streamed, so that a large record
# is never there twice.
MAX_WHOLE_SIZE = 4 << 20

_MAX_KEPT_SIZE = 32 << 20  # of a block whose memory glibc keeps when it is freed
_BLOCK_OVERHEAD = 64 << 10  # that malloc may add to a block

_threads = threading.local()


def narrow_size(encoding: Ints) -> Ints:
    """Bytes of a stored value under an encoding, or each of them in an array; 0 where it has all that its type has."""
    return encoding & (WITHOUT_SIGN - 1)  # type: ignore[operator, return-value]


def place_size(encoding: Ints) -> Ints:
    """Bytes of a place in a dictionary under an encoding, or each of them in an array; 0 where there is none."""
    return encoding // DICTIONARY  # type: ignore[operator, return-value]


def compress_frames(raw: Sequence[Buffer], level: int) -> list[bytes | memoryview]:
    """One Zstandard frame for each buffer, that states its content size; without checksum, which the directory has.

    In one step that needs the GIL only before and after; the bytes are those that each buffer would give alone.
    """
    compressors: dict[int, zstandard.ZstdCompressor] = _threads.__dict__.setdefault("compressors", {})
    compressor = compressors.get(level)
    if compressor is None:
        _keep_freed_memory()
        compressor = compressors[level] = _make_compressor(level)
    if len(raw) <= 2 or not all(map(len, raw)) or not hasattr(compressor, "multi_compress_to_buffer"):
        return [compressor.compress(part) for part in raw]
    stored = compressor.multi_compress_to_buffer(list(raw), threads=1)
    # The stubs do not say that a segment is a buffer.
    return [memoryview(stored[place]) for place in range(len(stored))]  # type: ignore[arg-type]


def _make_compressor(level: int) -> zstandard.ZstdCompressor:
    if level > 1:
        return zstandard.ZstdCompressor(level=level, write_checksum=False, write_content_size=True, write_dict_id=False)
    # Level 1 as it is for inputs of more than 256 KiB, whatever the size of a frame: text in frames of 128 KiB is then
    # smaller and images a little larger, and both are compressed and decoded faster (the commit has figures).
    parameters = zstandard.ZstdCompressionParameters.from_level(
        level, source_size=1 << 20, write_checksum=False, write_content_size=True, write_dict_id=False
    )
    return zstandard.ZstdCompressor(compression_params=parameters)


def max_stored_size(raw_size: Ints) -> Ints:
    """The most bytes that a zstd frame of `raw_size` bytes, or of each of them in an array, may take (section 10)."""
    return raw_size + (raw_size >> 8) + 64  # type: ignore[operator, return-value]


def decompress_into(stored: memoryview, target: memoryview, codec: int) -> None:
    """Decode one frame, whose checksum is already verified, into a buffer of exactly its raw size.

    Args:
        stored: the frame's stored bytes.
        target: writable bytes, as many as the directory's raw_size.
        codec: as in the directory.

    Raises:
        MalformedError: the bytes are not one frame of that size. TooNewError: unknown codec.
    """
    if codec != CODEC_ZSTD or len(target) <= MAX_WHOLE_SIZE:
        target[:] = decompress(stored, len(target), codec)
        return
    _check_frame(stored, len(target))
    try:
        with _decompressor().stream_reader(stored) as reader:
            written = 0
            while written < len(target):
                count = reader.readinto(target[written:])
                if not count:
                    break
                written += count
            # One more read takes the end of a frame whose last block is empty, and shows bytes beyond the stated size.
            surplus = reader.read(1) if written == len(target) else b""
    except zstandard.ZstdError as error:
        raise MalformedError(f"the zstd frame does not decode: {error}") from None
    if written != len(target) or surplus:
        raise MalformedError(f"the zstd frame does not hold the {len(target)} bytes that the directory states")


def decompress(stored: memoryview, raw_size: int, codec: int) -> Buffer:
    """Decode one frame, whose checksum is already verified.

    Returns:
        Its bytes; `stored` itself where they are stored raw.

    Raises:
        MalformedError: the bytes are not one frame of that size. TooNewError: unknown codec.
    """
    if codec == CODEC_RAW:
        if len(stored) != raw_size:
            raise MalformedError(f"a raw frame has {len(stored)} stored bytes, its raw size is {raw_size}")
        return stored
    if codec != CODEC_ZSTD:
        raise TooNewError(f"unknown codec {codec}", advice="Update recordio")
    front = _usual_front(raw_size)
    # A frame that begins so has no dictionary, and its window is its content, of just this size.
    if not raw_size or stored[: len(front)] != front:
        _check_zstd_frame(stored, raw_size)
    try:
        # It refuses bytes after the frame, and a frame that does not end.
        raw = _decompressor().decompress(stored, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise MalformedError(f"the zstd frame does not decode: {error}") from None
    if len(raw) != raw_size:
        raise MalformedError(f"the zstd frame does not hold the {raw_size} bytes that the directory states")
    return raw


def decompress_frames(stored: Sequence[memoryview], raw_sizes: Sequence[int]) -> list[Buffer]:
    """Decode zstd frames, whose checksums are already verified, in one step that needs the GIL only before and after.

    Raises:
        MalformedError: some bytes are not one frame of their size.
    """
    decompressor = _decompressor()
    if len(stored) == 1 or max(raw_sizes) > MAX_WHOLE_SIZE or not hasattr(decompressor, "multi_decompress_to_buffer"):
        return [decompress(frame, raw_size, CODEC_ZSTD) for frame, raw_size in zip(stored, raw_sizes, strict=True)]
    for frame, raw_size in zip(stored, raw_sizes, strict=True):
        _check_frame(frame, raw_size)
    try:
        decoded = decompressor.multi_decompress_to_buffer(
            list(stored), decompressed_sizes=struct.pack(f"={len(raw_sizes)}Q", *raw_sizes)
        )
    except zstandard.ZstdError as error:
        raise MalformedError(f"a zstd frame does not decode: {error}") from None
    # The stubs do not say that a segment is a buffer.
    raw: list[Buffer] = [memoryview(decoded[place]) for place in range(len(decoded))]  # type: ignore[arg-type]
    if [len(part) for part in raw] != list(raw_sizes):
        raise MalformedError("a zstd frame does not hold the bytes that the directory states")
    return raw


def _decompressor() -> zstandard.ZstdDecompressor:
    decompressor: zstandard.ZstdDecompressor | None = _threads.__dict__.get("decompressor")
    if decompressor is None:
        _keep_freed_memory()
        # The window is checked against the frame's own size before.
        decompressor = _threads.decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)
    return decompressor


@cache
def _keep_freed_memory() -> None:
    """Let malloc keep blocks that are freed, as it does by itself once a large array was freed.

    The library decodes and encodes into memory of its own. Until then, glibc gives every block of 128 KiB back to the
    system when it is freed, and what replaces it costs a page fault every 4 KiB (the commit that brought this has
    figures). Its threshold follows the largest block that was freed, up to 32 MiB; at most twice as much is kept
    (`mallopt(3)`, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD). To other allocators this means nothing.
    """
    bytes(_MAX_KEPT_SIZE - _BLOCK_OVERHEAD)  # of `calloc`, and freed at once: none of its pages is touched


@lru_cache(maxsize=4096)
def _usual_front(raw_size: int) -> bytes:
    """How zstd begins a frame of a size known to it: a single segment, without dictionary and checksum."""
    magic = int.from_bytes(_ZSTD_MAGIC, "little")
    if raw_size < 256:
        return struct.pack("<IBB", magic, 0x20, raw_size)
    if raw_size < 65_536 + 256:
        return struct.pack("<IBH", magic, 0x60, raw_size - 256)
    return struct.pack("<IBI", magic, 0xA0, raw_size)


def _check_frame(stored: memoryview, raw_size: int) -> None:
    """As `_check_zstd_frame`, at once for what nearly every frame is: one block behind the usual front."""
    front = _usual_front(raw_size)
    start = len(front)
    block = int.from_bytes(stored[start : start + 3], "little")
    is_one_block = block & 7 == _LAST_COMPRESSED_BLOCK and start + 3 + (block >> 3) == len(stored)
    if not raw_size or not is_one_block or stored[:start] != front:
        _check_zstd_frame(stored, raw_size)


def _check_zstd_frame(stored: memoryview, raw_size: int) -> None:
    """Check the frame header and walk the block headers: a stream accepts bytes after the frame, and any size."""
    size = len(stored)
    if size < 6 or stored[:4] != _ZSTD_MAGIC:
        raise MalformedError("a zstd frame does not begin with the zstd magic")
    descriptor = stored[4]
    single_segment = descriptor >> 5 & 1
    has_checksum = descriptor >> 2 & 1
    dictionary_id_size = _DICTIONARY_ID_SIZES[descriptor & 3]
    content_size_size = _CONTENT_SIZE_SIZES[descriptor >> 6] or single_segment
    window = stored[5]
    window_size = 0 if single_segment else (8 + (window & 7)) << (7 + (window >> 3))
    if dictionary_id_size or descriptor >> 3 & 1 or not content_size_size:
        raise MalformedError("a zstd frame names a dictionary, sets a reserved bit or does not state its content size")
    if not raw_size or window_size > max(raw_size, MAX_SPARE_WINDOW):
        raise MalformedError(f"a zstd frame of {raw_size} bytes asks for a window of {window_size} bytes")
    place = 5 + (not single_segment)
    content_size = int.from_bytes(stored[place : place + content_size_size], "little") + (
        256 if content_size_size == 2 else 0
    )
    if content_size != raw_size:
        raise MalformedError(f"a zstd frame states {content_size} bytes of content, the directory {raw_size}")
    place += content_size_size
    last = 0
    while not last:
        if place + 3 > size:
            raise MalformedError("a zstd frame ends inside a block header")
        header = stored[place] | stored[place + 1] << 8 | stored[place + 2] << 16
        last, kind, block_size = header & 1, header >> 1 & 3, header >> 3
        if kind == _RESERVED_BLOCK:
            raise MalformedError("a zstd frame has a block of the reserved type")
        place += 3 + (1 if kind == _RLE_BLOCK else block_size)
    if place + 4 * has_checksum != size:
        raise MalformedError(f"the zstd frame ends after {place + 4 * has_checksum} of {size} stored bytes")
