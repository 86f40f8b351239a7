"""Chaos on a real Apache Kafka."""
