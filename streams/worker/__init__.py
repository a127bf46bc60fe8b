"""The worker's process: the only package that imports Faust and aiokafka."""
