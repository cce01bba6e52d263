"""The commands; each is run by its path, or as a module: `python -m scripts.compare`.

As a module it finds what lies beside it (_checkout, ledger_rows) by this folder too.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
