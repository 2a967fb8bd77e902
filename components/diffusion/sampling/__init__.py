"""Drawing pictures with a model: the sampler, guidance, restyling and serving."""
