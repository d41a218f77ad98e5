"""What `tools/bench` measures; nothing of it is part of the library."""
