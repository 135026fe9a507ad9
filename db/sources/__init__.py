"""Where raw rows come from: one file a vendor, behind one interface."""
