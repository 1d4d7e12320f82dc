"""``zgs bench``: what the pipeline costs on this machine, and how far that is from the machine's limit."""
