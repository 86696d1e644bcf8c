"""occjax: camera-only 3D semantic occupancy, distilled from a large teacher into a small BEV student, in JAX."""

__version__ = "0.1.0"
