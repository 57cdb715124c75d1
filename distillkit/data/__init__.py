"""Images, synthetic sets, augmentation, and their files. May import base, process and networks."""
