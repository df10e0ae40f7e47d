"""The theorems, each written once, on bare arrays for one block of inputs."""
