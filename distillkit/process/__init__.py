"""How a process runs: progress, signals, locks, exit codes, dvc.lock. Nothing here changes a result. May import
base.
"""
