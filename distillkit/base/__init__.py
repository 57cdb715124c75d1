"""What everything may use: errors, strict reading of params.yaml, files, randomness, devices. Imports torch and
pydantic, nothing of ours.
"""
