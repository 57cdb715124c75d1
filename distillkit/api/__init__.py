"""What ``import distillkit as dk`` offers: any torch dataset, any network, no DVC. May import all of the above.

What these functions call is what the stages call: the same numbers give the same bytes.
"""
