"""Two TensorFlow graphs: are they the same computation?

A graph goes from reading.py (a file) through ops.py (records), steps.py (the differences that are
passed over, with folding.py for the arithmetic of constants) and normal_form.py (the distinct
computations) to matching.py (what differs); diff.py makes a part of the comparison of it.
"""
