"""``hf://`` addresses in the ordinary ``dvc`` command: as a source to import from and as a remote. May import base,
process and hub.
"""
