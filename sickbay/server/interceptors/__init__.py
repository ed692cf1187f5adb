"""Interceptors of all calls, over gRPC and in process: errors, metrics, traces, shutdown."""
