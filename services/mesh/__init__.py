"""The fabric between services: contracts, topics, topology, the stage runtime and its ports. Not deployable itself."""
