"""Sources of real images: one file for each kind of source. May import base, process and data."""
