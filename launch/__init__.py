"""Launchers: flags become a configuration, and that one call of a stage.

A checkout has them as `launch`, an installed wheel as `jaxpolicy.launch`, since a package called
`launch` is ROS 2's. So imports among them are relative.

`python -m launch.NAME` imports this before NAME, and a signal may come then. While Python looks
for the module to run, sys.argv begins with "-m". Nothing is done for those who import a launcher.
"""

import sys

from jaxpolicy.core import interruption

if sys.argv[:1] == ["-m"]:
    interruption.watch()
