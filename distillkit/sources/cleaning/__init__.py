"""What becomes of rows whose images occur twice, and of labels that are not the source's. May import base, data, readers."""
