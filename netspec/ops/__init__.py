"""The ops of the language, one class each, grouped by family. `base.discover()` finds them all."""
