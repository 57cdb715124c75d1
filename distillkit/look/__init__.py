"""A page that shows what a set is: every image, where it came from, what it covers, what it teaches.

May import all rooms up to check.
"""
