"""Inspection of chart archives before anything else opens them."""
