"""Robot-manipulation policies in JAX, from demonstrations to a deployed controller.

Nothing is imported here on purpose: `import jaxpolicy` is fast and pulls in no
JAX, so that `jaxpolicy.deploy` runs on a controller that has none.
"""

__version__ = "0.1.0"
