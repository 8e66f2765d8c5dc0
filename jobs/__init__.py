"""The association jobs, the service's language, and the command line.

Each of these stands upon those below it:

    main, cli     the installed command, its options and arguments
    commands      what each command does
    sandbox       a stand-in for the service, with faults on demand
    auth          credentials, and the requests that carry them
    association   the jobs: which requests a pair needs, and what is true then
    endpoints     which host and which project a request goes to
    ecs           the service's language: what each of its answers means
"""
