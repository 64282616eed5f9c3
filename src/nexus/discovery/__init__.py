"""Discovery: finds inference servers on this machine and this network (behaviour § 7)."""
