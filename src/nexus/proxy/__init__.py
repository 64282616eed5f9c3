"""The life of a call: admitted, routed, attempted, relayed, recorded.

See docs/life-of-a-request.md.
"""
