"""How close the wire comes to the limit: `python -m benchmarks.wire`."""
