"""The smart worker: takes jobs from the queue, runs their handlers, and routes what comes of it. Start with `engine.py`."""
