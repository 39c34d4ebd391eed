"""The real Helm engine, in child processes that may die without taking anything with them.

``base`` is what may be asked and answered, ``pool`` is who answers. Only ``helm`` and ``child`` load the library.
"""
