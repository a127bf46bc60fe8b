"""Kafka outside of Faust: topics, reading, producing, and the translation of Kafka's errors."""
