"""Networks: built-in ones, those of the field for cross tests, the user's own, and their parameters as one vector.
May import base and process.
"""
