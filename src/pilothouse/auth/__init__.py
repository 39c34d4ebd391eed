"""Proofs of identity and storage of secrets: request signatures, passwords, encryption at rest.

This package knows neither HTTP routes nor the database.
"""
