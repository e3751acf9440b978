"""What a denoiser kept and what it changed: feature maps before and after, and how far the change can be trusted."""
