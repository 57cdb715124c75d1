"""The parts of methods: inner steps and their adjoint, objectives, the outer loop, and options that several methods
share. May import base, process, networks, data and training.
"""
