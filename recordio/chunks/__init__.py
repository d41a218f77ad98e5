"""Chunks and their frames: rows of columns <-> stored bytes, with the numbers in numpy."""
