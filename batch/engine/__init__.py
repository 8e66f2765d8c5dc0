"""The engine: takes every row to its outcome, as fast as the service lets it.

`pool` has the workers. One row's way through it:

    pool takes a row            from the input, or one that was set `aside` and is due again
    attempts sends its request  once `pace` gives a permit of its `scope`; the journal hears of it before
    the job judges the answer   `scopes` notes what it says of the scope, `presence` of the service as a whole
    pool goes on                the job has another request or the row's result; or the row is set `aside`

`pace` is the rate limiter of one scope, `rate` and `adaptive` say how fast, `refusals` whether being refused
comes from that. `outage` is the circuit breaker of one scope. `retry` says how long to wait, `halt` when the
whole run ends early. `task` is what is known of a row under way.

Nothing here reads files, knows HTTP or credentials, or knows what a request is for.
"""
