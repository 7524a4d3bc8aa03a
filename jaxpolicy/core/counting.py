"""Numbers of things, in words for people."""

__all__ = ["counted"]


def counted(n: int, noun: str) -> str:
    """'1 episode', '12 episodes'."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
