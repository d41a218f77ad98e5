"""Pools of threads and processes, and what runs ahead of its consumer. Nothing here knows what it runs."""
