"""Fuzzing of every reader of bytes that come from outside: ``python -m fuzz`` beside this folder."""
