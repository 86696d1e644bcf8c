"""What the student is trained to minimise."""
