"""What is run: the association jobs, the service's language, its stand-in, and the command line."""
