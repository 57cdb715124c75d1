"""Methods that learn nothing: real images selected, composed or averaged, or a set made elsewhere. May import base to
matching.
"""
