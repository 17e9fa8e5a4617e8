"""How messages put things."""


def counted(number: int, one: str, more: str = "") -> str:
    """(1, "picture") -> "1 picture", (3, "picture") -> "3 pictures"."""
    return f"{number} {one if number == 1 else more or f'{one}s'}"
