"""The modules that several packages share.

cli.py and flags.py: the command line; files.py: files written whole; figures.py: pictures;
processes.py: other programs; safe_pickle.py: pickles without code; tf_stack.py: TensorFlow, set up
once; supported_python.py: the first import of every command.
"""
