"""The student network, one file per stage of the flow from images to voxels."""
