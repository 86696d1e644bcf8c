"""From images and calibration to occupancy."""
