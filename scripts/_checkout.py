"""Let a script of this folder import the modules of the checkout, from whatever directory."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import common.supported_python  # noqa: E402, F401  (refuses an unsupported Python)
