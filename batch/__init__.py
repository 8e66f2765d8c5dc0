"""The runner: rows in, requests out, outcomes kept. It knows nothing of what the requests are for.

One row's way, from top to bottom; each package imports only what stands below it:

    run        opens the input, starts the engine, writes the report
    preflight  looks at every row before anything is sent
    engine     takes every row to its outcome: permits, attempts, pauses, outages
    results    journal, report, and what earlier runs have left
    http       one request in, one response or one error out
    input      the rows of a file
    job        what a job has to say: its columns, its requests, what a response means
    model      the values that all of them pass on: Row, Request, Response, Verdict, Outcome, Record

The words that they share:

    row        one line of the input, and all that becomes of it
    scope      what the service counts a rate limit by: a project at an endpoint
    permit     leave to send one request now
    attempt    one request sent, and its end: a response or an error
    verdict    what the job says of the end of an attempt
    outcome    what has become of a row: its status, its reason, its attempts and times
    record     the outcome as a report holds it
    in doubt   sent, perhaps done, and not answered
"""
