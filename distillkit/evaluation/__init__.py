"""What a set is worth: accuracy of networks trained on it, of its nearest neighbours, and the metrics files. May
import base to training.
"""
