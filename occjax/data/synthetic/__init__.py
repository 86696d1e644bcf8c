"""A procedural city, written out as a nuScenes root with images, LiDAR, labels and a simulated teacher."""

from occjax.data.synthetic.generate import generate

__all__ = ["generate"]
