"""GaussianFormer's inference in JAX: six camera images become voxel distributions, from the published weights."""
