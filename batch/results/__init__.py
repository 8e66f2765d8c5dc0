"""What is kept of a run: nothing that was done is lost, and nothing is said that was not seen.

`journal` is written while the run is under way and outlives any kill. At the end `outputs` writes the
`report` and the failures file, whole or not at all. `resume` joins what several runs say of one row,
`history` finds what other runs have taken back since, and `summary` counts.

Nothing here sends anything.
"""
