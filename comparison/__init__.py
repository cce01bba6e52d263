"""Did two runs do the same thing and, if not, where do they first differ?

The five parts of the comparison are records.py, graph/, checkpoints.py (object_checkpoints.py: what
TensorFlow 2 writes), curves.py (curve_reading.py and curve_columns.py: of any code; spread.py and
weight_norms.py) and activations.py. sources.py finds what a path holds, findings.py defines what a
part finds and the verdict of all parts, terminal.py prints it, and report.py writes it as a page
(with pictures.py and report.html). No network is built: what is compared may come from any code.
"""
