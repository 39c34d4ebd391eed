"""placeholder"""
from pilothouse.engine.base import ProgressEvent
def parse_line(level: int, line: str) -> ProgressEvent | None:
    return None
