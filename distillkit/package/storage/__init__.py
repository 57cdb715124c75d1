"""How a package stores the images of a set, and how its card describes that."""
