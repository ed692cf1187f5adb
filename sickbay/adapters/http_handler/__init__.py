"""Runs jobs behind HTTP: the handler of a job type is an endpoint, and the worker posts each job to it.

Built on httpcore, which makes the connections of httpx; it is loaded only if there is such a handler.
"""
