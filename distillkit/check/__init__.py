"""Looking at sets: show, verify, sign-offs, diff, training again, one table of several. May import all of the above."""
