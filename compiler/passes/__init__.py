"""Passes over a checked network: each makes another network of it, and says whether it changed anything."""
