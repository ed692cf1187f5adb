"""What stands around every call, over gRPC and in process alike: errors, metrics, traces, the end."""
