"""The sub-commands of ``netspec`` that run an exported network."""
