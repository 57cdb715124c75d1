"""What a set reveals of the images that it was made from: membership inference with shadow sets, and cheap bounds.

It imports base to pipeline; ``result.py`` imports only base.
"""
