"""Where a server listens, as those who call it write it."""


def address(host: str, port: int) -> str:
    """HOST:PORT, and [HOST]:PORT of IPv6."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
