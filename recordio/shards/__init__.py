"""One shard: written chunk by chunk, read one chunk or many at a time."""
