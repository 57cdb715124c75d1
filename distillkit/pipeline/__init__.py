"""Recipes as params.yaml has them, and the unfinished work of stages. May import base to methods."""
