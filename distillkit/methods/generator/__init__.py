"""An image generator that is trained on the source: its networks, training and sampling, and the method that uses it.
May import base to matching.
"""
