"""Credentials: where they are found, what is got for them, and the requests that carry them.

`credentials` finds what other tools of these clouds use. `issuer` gets tokens and temporary keys for them,
from the identity service (`iam`) or from an ECS itself (`metadata`), and gets new ones in time. `access` is
the transport that authorises every request: with a token, or signed (`signing`) by the service's `clock`.
`masking` knows every secret and keeps it out of what is written.

Nothing here knows what a request is for.
"""
