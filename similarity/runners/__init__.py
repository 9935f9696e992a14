"""Where pictures are embedded: on this machine, or on many."""
