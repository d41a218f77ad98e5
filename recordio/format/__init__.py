"""Bytes <-> values of shards and indexes. No open(), no thread, no clock, no numpy.

    layout     magics, sizes, limits and the fixed structures: file header, trailer
    checksum   CRC-32C and BLAKE2b as the format uses them
    objects    one msgpack object, strictly
    codec      one frame <-> its raw bytes
    chunk      chunk header, directory
    footer     chunk table, footer
    index      the index file

Spec: spec/format.md.
"""
