"""How one process runs: progress, signals, locks, exit codes, stages side by side. Nothing here changes a result.
May import base.
"""
