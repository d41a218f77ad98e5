"""Conversion: any source of records -> a sharded data set. Sources and their parts, shard tasks, the report."""
