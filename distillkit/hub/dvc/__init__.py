"""hf:// in plain dvc: a source to import from and a remote to push to. May import base, process and hub."""
