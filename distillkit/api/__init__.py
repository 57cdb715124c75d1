"""The functions of ``import distillkit as dk``: for any torch dataset and any network, without DVC. May import all
rooms above.

They call the same code as the stages, so the same numbers give the same bytes.
"""
