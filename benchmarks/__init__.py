"""Side-by-side measurements. Each module is a script that prints a ratio: `python -m benchmarks.export_speed`."""
