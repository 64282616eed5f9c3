"""Framing of event streams: where an event ends, and what passes by. Pure: bytes in, bytes out."""
