"""Methods that learn images: their losses and initial sets. May import base to selection."""
