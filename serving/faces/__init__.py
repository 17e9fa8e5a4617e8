"""What callers reach: gRPC, REST, TLS, and what operators ask."""
