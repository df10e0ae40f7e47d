"""The theorems, each implemented once, on bare arrays for one block of inputs."""
