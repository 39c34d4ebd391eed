"""Pilothouse: a Helm release server that speaks Huawei Cloud CCE's chart and release API."""

__version__ = "0.1.0"
