"""Progress of long work."""
from dataclasses import dataclass
@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    done_records: int
    total_records: int | None
    raw_size: int
    stored_size: int
    done_shards: int
    total_shards: int | None
    elapsed_s: float
    stage: str
def plain_reporter(stream, interval_s=5): return lambda p: None
