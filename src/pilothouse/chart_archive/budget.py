"""Limits for an archive and all archives nested in it together; Helm's own limits apply to each archive separately."""

from dataclasses import dataclass

from pilothouse.errors import InvalidChart


@dataclass(frozen=True, kw_only=True)
class ArchiveLimits:
    """Plain numbers, see ``settings.ChartLimits``, for callers that open archives without loading the settings."""

    unpacked_bytes: int
    file_bytes: int
    files: int
    depth: int


@dataclass
class Budget:
    """Usage so far; a charge that exceeds a limit raises InvalidChart, which names the limit."""

    limits: ArchiveLimits
    unpacked: int = 0
    entries: int = 0

    def charge_bytes(self, count: int, *, archive: str) -> None:
        """Count inflated bytes, of nested archives themselves and of their content."""
        self.unpacked += count
        if self.unpacked > self.limits.unpacked_bytes:
            raise InvalidChart(
                f"{archive}: unpacks to more than {self.limits.unpacked_bytes} bytes, "
                "the limit for a chart with all archives in its charts/ folders"
            )

    def charge_entry(self, *, archive: str) -> None:
        """Count a file, folder or extension header."""
        self.entries += 1
        if self.entries > self.limits.files:
            raise InvalidChart(
                f"{archive}: holds more than {self.limits.files} files and folders, "
                "the limit for a chart with all archives in its charts/ folders"
            )

    def check_file(self, size: int, *, name: str, archive: str) -> None:
        """Refuse a file that is too large by itself."""
        if size > self.limits.file_bytes:
            raise InvalidChart(
                f"{archive}: {name!r} has {size} bytes; the limit for one file is {self.limits.file_bytes}"
            )

    def check_depth(self, depth: int, *, archive: str) -> None:
        """Refuse an archive that is nested too deeply."""
        if depth > self.limits.depth:
            raise InvalidChart(f"{archive}: archives nested more than {self.limits.depth} deep, the limit")
