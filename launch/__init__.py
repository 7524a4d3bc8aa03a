"""Programs: flags into one call of the library each.

`python -m launch.NAME` imports this before NAME, which takes seconds; a signal may come then.
While Python looks for the module to run, sys.argv begins with "-m". Nothing is done for those
who import a launcher.
"""

import sys

from jaxpolicy.core import interruption

if sys.argv[:1] == ["-m"]:
    interruption.watch()
