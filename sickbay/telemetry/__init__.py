"""What a process tells of itself: logs, metrics, traces. The flow knows none of it: it is heard by hooks and port decorators."""
