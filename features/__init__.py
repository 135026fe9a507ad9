"""What it sees: feature views, windows, point-in-time reads."""
