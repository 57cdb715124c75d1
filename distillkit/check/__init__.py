"""Looking at sets: show, verify, diff, training again, and the import of sets made elsewhere. May import all of the
above.
"""
