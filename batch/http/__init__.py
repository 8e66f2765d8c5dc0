"""HTTP: one request in, one response or one error out.

`transport` sends a request and bounds what it reads of the answer. `exchange` makes sure that an answer
belongs to its request. `network` decides on TLS and proxies, `mishaps` words what went wrong, `unpacking`
reads packed bodies, `deadline` ends what takes too long, `loopback` knows this machine's names.

Nothing here knows what a request is for, tries again, or waits for a permit.
"""
