"""The Open Inference Protocol V2 as both of its forms have it: datatypes, the checks of a request, what is told."""
