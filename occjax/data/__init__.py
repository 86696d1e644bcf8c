"""Data: nuScenes files become batches of numpy arrays; imports no jax."""
