"""The Hugging Face Hub: client, push, pull. May import base, process, data and package."""
