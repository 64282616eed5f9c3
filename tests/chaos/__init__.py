"""Faults of whole processes and networks under load: what clients see, and how soon all is well."""
