"""What a pipeline takes before anything runs: memory and time of its stages, and how fast this machine is. May import
all rooms up to pipeline.
"""
