"""A published teacher run from its weights: keyframes in, teacher files and dump surface out."""
