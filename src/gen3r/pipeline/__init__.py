"""Generation and reconstruction: the pipeline (Gen3R, sec. 3)."""

from gen3r.pipeline.generation import Gen3RPipeline

__all__ = ["Gen3RPipeline"]
