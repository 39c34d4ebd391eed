"""The Helm engine, in child processes that can die without harming the rest.

``protocol`` defines requests and answers, ``pool`` manages the children. The program that runs Helm's SDK is
``engine/`` at the root of the project; ``launcher`` executes it.
"""
