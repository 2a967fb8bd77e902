"""What a denoiser learns: how pictures are corrupted, what is predicted, at which times, how losses are weighted, which samplers fit."""
