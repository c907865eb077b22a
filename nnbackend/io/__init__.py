"""Files: weights as safetensors, checkpoints, logs."""
