"""The synthetic city, written out as a nuScenes root with images, LiDAR, labels and a simulated teacher."""

from occjax.synthetic.generate import generate

__all__ = ["generate"]
