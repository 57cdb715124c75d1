"""Code that every room may use: errors, strict reading of params.yaml, files, randomness, devices. Imports no other
room.
"""
