"""Conversion between protobuf messages and the domain: requests, responses, payloads, pages."""
