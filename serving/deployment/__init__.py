"""Where a model folder can be served: so far a process on this machine."""
