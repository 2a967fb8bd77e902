"""The pipelines' steps, one small file each: typed artifacts in and out, one call into ``components``."""
