"""Proofs of identity and the keeping of secrets: request signatures, passwords, sealing at rest.

Nothing in here knows HTTP routes or the database.
"""
