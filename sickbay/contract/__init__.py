"""Between the protobuf contract and the domain: requests in, responses out, payloads, pages."""
