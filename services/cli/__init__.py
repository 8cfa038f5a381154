"""``weir``: one command for people and scripts; each module is one subcommand.

Every command has ``--help`` with an example, exits 0 only on success, prints errors in one line that show the value,
the place and the remedy, and has ``--json`` where a machine may want to read it.
"""
