"""ONE training loop, its objectives, optimisers, schedules and checkpoints."""
