"""Workers on this machine: how they are started, and who starts them."""
