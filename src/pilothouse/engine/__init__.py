"""The real Helm engine, in child processes that may die without taking anything with them.

``base`` is what may be asked and answered, ``pool`` is who answers. The program that is
run, and Helm's own SDK in it, is ``engine/`` at the root of the project; ``launcher`` becomes it.
"""
