"""Operators: what holds for all of them, and for each."""
