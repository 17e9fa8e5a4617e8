"""Where model folders can be served: a process on this machine, and what describes them to other engines."""
