"""The sub-commands of ``netspec`` that run an exported network."""

import os

# Read by NumPy when it is first imported. Its linear algebra, which no command uses, would have a thread for each
# further core, and those would take the cores for the first 80 ms, looking for work, while models are to be loaded.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
