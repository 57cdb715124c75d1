"""A pipeline in another repository: init writes it, doctor checks whether a machine is ready for it. May import all
rooms above.
"""
