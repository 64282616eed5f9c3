"""Hostile input by the million: see "Fuzzing" in docs/testing.md."""
