"""The teacher as data: the file format, its codes, folders of it, and its rows on the device."""
