"""Which training images look wrong, and why."""
