"""Foreign files become ours: teacher dumps, PyTorch weights, packed records."""
