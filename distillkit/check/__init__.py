"""Checks of finished sets: show, verify, sign-offs, diff, new training, one table of several. May import all rooms
above.
"""
