"""What is trained on and with: images, sets, networks, augmentation, and their files. May import base and process."""
