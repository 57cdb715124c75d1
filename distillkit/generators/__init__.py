"""Trained generators as folders, and sets sampled from them. May import the rooms before it."""
