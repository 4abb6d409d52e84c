"""One module for each command; the group imports a module when its command is asked for."""
