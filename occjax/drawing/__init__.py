"""Pictures without a display: numpy, OpenCV and Pillow only."""
