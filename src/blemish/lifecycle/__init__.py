"""What becomes of a model after its fit: update, forget, merge, calibrate."""
