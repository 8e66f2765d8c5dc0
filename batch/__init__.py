"""The runner: rows in, requests out, outcomes kept. It knows nothing of what the requests are for."""
