"""Defenses at equal cost: each is tuned until it costs so much accuracy, and all are attacked alike afterwards."""
