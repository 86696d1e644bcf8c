"""What another model's evaluation script wrote, read, checked and turned into teacher files."""
