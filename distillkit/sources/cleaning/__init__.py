"""Rows whose images occur twice, and labels that are not the source's. May import base, data, readers."""
