"""What is seen of requests: metrics, spans, logs."""
