"""croissant.json: the package for machines, in the vocabulary of MLCommons Croissant 1.1 with its RAI extension."""
