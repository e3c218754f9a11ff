"""The cortical surface: fsaverage's mesh, regions on it, and pictures of it."""
