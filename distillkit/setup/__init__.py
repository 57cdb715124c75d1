"""A pipeline in another repository: init writes it, doctor says whether a machine is ready for it. May import all
of the above.
"""
