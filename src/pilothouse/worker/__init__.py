"""Carries out accepted operations: takes one, holds its lease, drives one engine child, writes the outcome."""
