"""The commands: a module for each that is no plain job, named like it, and what they share.

`run` carries out the commands that send: it opens the input, takes what `connection` gives, and starts a
run. `check`, `login`, `sandbox` and `demo` are the commands of these names. `messages` says how a run has
ended, `watch` how far it is. `signals`, `stopping` and `streams` see to it that a command ends as it was
asked to, and that talking fails nothing. `forwarding` passes a report on to standard output, `open_files`
raises the limit of open files.

Nothing here decides what becomes of a row.
"""
