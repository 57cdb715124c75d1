"""Recipes, params.yaml checked as a whole, how a stage begins, and what it keeps when it is stopped.

May import base to sources.
"""
