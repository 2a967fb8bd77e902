"""What a denoiser learns: how pictures are corrupted, what is predicted, at which times, how losses weigh, which samplers fit."""
