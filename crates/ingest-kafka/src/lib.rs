//! Lands Debezium change events and JSON messages from Kafka.
