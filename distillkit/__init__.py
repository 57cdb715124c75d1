"""distillkit: dataset distillation with DVC stages, a PyTorch core and Hugging Face datasets."""

__version__ = "0.1.0"
