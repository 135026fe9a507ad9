"""The declared feature views, one file each: a module here that holds `VIEW` is a view."""
