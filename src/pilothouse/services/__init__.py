"""The rules, one module per noun: no SQL, no HTTP.

A service function is one unit of work and delimits its own transactions, because most of them ask a
cluster or an engine child in between, and no transaction may stay open while a stranger answers.
"""
