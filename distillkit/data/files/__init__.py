"""Images, sets and difficulty at rest: safetensors files that describe themselves."""
