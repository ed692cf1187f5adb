"""Submitting jobs, whoever does it: the Job API for its clients, a worker for its handlers.

`submit.py` is the way of a new job; the other modules are what it asks on the way.
"""
