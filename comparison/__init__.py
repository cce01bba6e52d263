"""Did two runs do the same thing and, if not, where did they first go apart?

sources     what a path on the command line holds: a run directory or a bare file
findings    what a part of the comparison says, and the verdict of all parts
records, graph_diff, checkpoint_diff, curves_diff, activation_diff: the five parts
report      the page; pictures: its figures; terminal: the table

A graph goes from graph_reading (a file) through graph_ops (records), graph_steps (the differences
that are passed over, with graph_folding for the arithmetic of constants) and graph_normal_form (the
distinct computations) to graph_matching (what differs). curve_reading reads the tables.

Nothing here builds a network: what is compared may come from any code.
"""
