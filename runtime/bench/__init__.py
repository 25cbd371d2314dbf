"""How fast a model runs on this machine: settings that are tried, each in a process of its own, and what is best."""
