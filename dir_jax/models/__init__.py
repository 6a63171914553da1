"""The network's parts and their assembly."""
