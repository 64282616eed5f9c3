"""The vocabulary of Nexus: values that every room speaks of, and nothing that acts.

Pure: no I/O, no clock, no chance. Times come in as arguments, in seconds on one monotonic clock.
"""
