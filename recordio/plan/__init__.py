"""Which records, shards and chunks, in what order: pure functions of values. No file, no thread, no clock."""
