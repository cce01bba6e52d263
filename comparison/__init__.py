"""Did two runs do the same thing and, if not, where did they first go apart?

sources     what a path on the command line holds: a run directory or a bare file
findings    what a part of the comparison says, and the verdict of all parts
records, graph_diff, checkpoint_diff, curves_diff, activation_diff: the five parts
graph_reading, graph_normal_form, graph_matching: from a file to a graph that can be compared
report      the page; pictures: its figures; terminal: the table

Nothing here builds a network: what is compared may come from any code.
"""
