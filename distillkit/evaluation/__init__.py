"""Evaluation of a set: accuracy of networks trained on it and of nearest neighbours, and the metrics files. May import
base to training.
"""
