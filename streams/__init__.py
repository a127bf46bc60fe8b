"""The line that carries sales from Kafka to the ERP. Read `pipeline` first: the whole path of a batch."""
