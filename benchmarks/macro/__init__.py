"""Nexus beside nginx: CPU time per request and per streamed event (``docs/benchmarks.md``)."""
