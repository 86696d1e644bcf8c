"""The configurations: each file's get_config() builds one; `configs/` beside main.py is this folder."""
