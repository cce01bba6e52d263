"""Two TensorFlow graphs: are they the same computation?

reading.py reads a graph from a file, ops.py turns it into records, steps.py removes the differences
that are ignored (folding.py: the arithmetic of constants; reductions.py: gradients of sums and
means), and normal_form.py merges what computes the same. matching.py then finds which op
corresponds to which, differences.py what differs, and verdict.py makes a part of the comparison.
"""
