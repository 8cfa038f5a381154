"""``weir``: one command for people and scripts; each module is one subcommand.

Every command has ``--help`` with an example, exits 0 only on success, prints errors in one line that show the value,
the place and the remedy, and has ``--json`` where a machine may want to read it.

Consumes: whatever topic a command is asked about, read committed, outside any group.
Does: shows what there is, and acts in people's names: policies, models, reviews, dead letters.
Produces: a person's moves to the topics that they belong to, each with its entry in ``audit.v1``.
Guarantees: nothing is moved unless the command says so; a command that was cut short can be repeated.
"""
