"""How a package keeps the images of a set, and what its card says of that."""
