"""What a pipeline takes in time: the work of its stages, and how fast this machine does it."""
