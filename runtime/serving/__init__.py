"""Models as they are served, whatever the protocol: a repository of versions, each with a queue, batches and counts."""
