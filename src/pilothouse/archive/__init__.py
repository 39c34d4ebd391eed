"""What is known about a chart archive before anything opens it: ``inspect_chart`` and what it found."""

from pilothouse.archive.charts import ChartArchive, inspect_chart

__all__ = ["ChartArchive", "inspect_chart"]
