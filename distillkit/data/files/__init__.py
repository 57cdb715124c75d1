"""Files of images, sets and difficulty: safetensors files with a header that describes them."""
