"""Puts the project of this script first on the import path, also that of worker processes.

An installed package may be another copy of the code: that of the workspace while a queued experiment runs in a copy
of it, or that of another clone which shares the environment. DVC records the code next to this script, so this code
must run. Modules in the project's folder, such as environments of one's own, are importable for the same reason.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARENT = os.getppid()  # Of DVC, noted before anything slow is imported.

if not (ROOT / "offline_gcrl").is_dir():
    sys.exit(
        f"error: {ROOT}: no folder offline_gcrl; run this script in a complete copy of the project"
    )
sys.path.insert(0, str(ROOT))
