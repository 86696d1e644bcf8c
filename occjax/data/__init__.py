"""From nuScenes files to batches of numpy arrays; imports no jax."""
