"""Whether parts, light or camera have changed since a model was learned."""
