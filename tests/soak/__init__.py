"""One gateway for minutes or hours under mixed traffic, faults and reloads: what does it keep?"""
