"""The `netspec` command and the sub-commands that need nothing heavy."""
