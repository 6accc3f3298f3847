"""How nano is trained: samples, simulated prompts, losses and the loop."""
