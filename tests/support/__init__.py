"""What tests stand on: a Kafka and a PostgreSQL, however they can be had on this machine."""
