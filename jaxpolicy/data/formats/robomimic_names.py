"""Names inside robomimic files that this library writes."""

__all__ = ["ATTRIBUTE", "EPISODE", "obs_name"]

# Attribute of `data` with the Facts of the dataset, and of a demonstration with JSON
# {"metadata": EpisodeMetadata, "language_instruction": text}.
ATTRIBUTE = "jaxpolicy"
EPISODE = "jaxpolicy_episode"


def obs_name(key: str) -> str:
    """Name below `obs` of an observation key, without "/", which robomimic splits at.

    `image/wrist` -> `wrist_image`, as robosuite calls its cameras; `mask/wrist` -> `wrist_mask`.
    """
    kind, _, name = key.partition("/")
    return f"{name}_{kind}".replace("/", "_") if name else kind
