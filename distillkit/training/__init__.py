"""Training on real images: the one training loop, experts with their files, difficulty. May import base, process
and data.
"""
