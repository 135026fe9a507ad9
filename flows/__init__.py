"""When: Prefect flows and the command line; no computation of their own."""
