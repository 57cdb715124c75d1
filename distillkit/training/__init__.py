"""Training on real images: the only training loop, experts and their files, difficulty. May import base, process,
networks and data.
"""
