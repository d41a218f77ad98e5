"""The formats that the benchmark compares: one module each, ours among them.

Importing a module here imports no format: that happens in the process that measures it.
"""

from __future__ import annotations

from importlib import import_module

from bench_parts.peers.contract import Peer

__all__ = ["Peer", "all_peers", "find_peer"]

_MODULES = (
    "own", "parquet", "lance", "bagz", "hf_datasets", "lmdb", "tfrecord", "arrayrecord", "mds", "webdataset", "litdata",
    "memmap",
)  # fmt: skip


def all_peers() -> tuple[Peer, ...]:
    """In the order of the table."""
    return tuple(peer for name in _MODULES for peer in import_module(f"bench_parts.peers.{name}").PEERS)


def find_peer(module: str, name: str) -> Peer:
    """The one with this name, without importing the modules of the others."""
    peers: tuple[Peer, ...] = import_module(module).PEERS
    return next(peer for peer in peers if peer.name == name)
