"""Recipes, the check of the whole params.yaml, the start of a stage, and the work that an interrupted stage keeps. May
import base to sources.
"""
