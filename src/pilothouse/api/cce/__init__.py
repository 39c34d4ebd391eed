"""The vendor's dialect: Huawei Cloud CCE's chart and release API, and the part of IAM that its clients call.

Wire names, status words and error codes live in this package only.
"""
