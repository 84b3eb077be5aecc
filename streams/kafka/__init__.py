"""Everything of Kafka: settings, topics, the log's two ends, and the Faust host. See README.md in this folder."""
