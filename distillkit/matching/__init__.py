"""What methods are made of: the inner steps and their adjoint, the objectives, the outer loop, and options that
several methods share. May import base, process, data and training.
"""
