"""The converters of other projects that export uses, each in the one version that was tested."""

import importlib.metadata

from jaxpolicy.core.specs import InputError

__all__ = ["require"]


def require(artefact: str, package: str, version: str) -> None:
    """Raises InputError unless `package` is installed in `version`; `artefact` is what needs it."""
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        found = "none"
    if found != version:
        raise InputError(
            f"exporting {artefact} needs {package} {version}, found {found}: "
            "pip install jaxpolicy[export]"
        )
