"""What scripts/against_server.py is made of."""
