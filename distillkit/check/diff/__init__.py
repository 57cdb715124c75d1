"""The differences between two versions of a set or package. May import base to hub."""
