"""What the end-to-end tests stand on: manager processes with their own rights, a neutral observer, and the checkers."""
