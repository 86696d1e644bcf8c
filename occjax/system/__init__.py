"""System: the machine, the terminal and the processes that a run lives with, and nothing of occupancy."""
