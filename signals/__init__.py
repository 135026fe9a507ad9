"""What leaves: scoring, the signals contract, exports."""
