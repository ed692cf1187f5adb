"""A gRPC channel to servicers of the same process, for the REST gateways: no socket, no serialization, the same interceptors."""
