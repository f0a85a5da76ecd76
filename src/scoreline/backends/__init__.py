"""One heavy dependency, one file. Nothing here imports its dependency before it is asked to run."""
