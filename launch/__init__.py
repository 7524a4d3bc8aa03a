"""Launchers: flags become a configuration, and that one call of a stage.

A checkout has them as `launch`, an installed wheel as `jaxpolicy.launch`, since a package called
`launch` is ROS 2's. So imports among them are relative.
"""
