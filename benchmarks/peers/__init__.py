"""Nexus beside the gateways that people would use instead (``docs/performance.md``)."""
