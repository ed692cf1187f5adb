"""What stands in the messages on the queues (codec.py), and how events get there in batches (outbox.py)."""
