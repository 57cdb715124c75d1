"""Methods that learn images: what is matched, and where images start. May import base to selection."""
