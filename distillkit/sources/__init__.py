"""Where real images come from: one file for each kind of source. May import base, process and data."""
