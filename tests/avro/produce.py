"""Writes messages with the Avro serializer of Confluent's Python client, which registers their schemas.

    produce.py BROKERS REGISTRY TOPIC

reads a message a line from standard input, as JSON: {"key": PART, "value": PART}, where PART is null or
{"schema": ..., "data": ...}. It prints the ids of the schemas of each: [KEY, VALUE].

What JSON cannot say is an object of one member: {"$decimal": "1.50"}, {"$bytes": BASE64}, {"$time": "ISO text"},
{"$type": [NAME, VALUE]} (which type of a union).
"""

import base64
import datetime
import decimal
import json
import struct
import sys

from confluent_kafka import Producer
from confluent_kafka.schema_registry import SchemaRegistryClient, topic_subject_name_strategy
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext


def time(text):
    return datetime.datetime.fromisoformat(text)


def pair(parts):
    return (parts[0], python(parts[1]))


SAID = {"$decimal": decimal.Decimal, "$bytes": base64.b64decode, "$time": time, "$type": pair}


def python(data):
    if isinstance(data, list):
        return [python(item) for item in data]
    if not isinstance(data, dict):
        return data
    for name, make in SAID.items():
        if set(data) == {name}:
            return make(data[name])
    return {name: python(value) for name, value in data.items()}


def serialize(registry, topic, field, part):
    if part is None:
        return None, None
    conf = {"subject.name.strategy": topic_subject_name_strategy}
    serializer = AvroSerializer(registry, json.dumps(part["schema"]), conf=conf)
    framed = serializer(python(part["data"]), SerializationContext(topic, field))
    return struct.unpack(">I", framed[1:5])[0], framed


def main():
    brokers, url, topic = sys.argv[1:]
    registry = SchemaRegistryClient({"url": url})
    producer = Producer({"bootstrap.servers": brokers, "enable.idempotence": True, "linger.ms": 1})
    failed = []
    for line in sys.stdin:
        message = json.loads(line)
        key_id, key = serialize(registry, topic, MessageField.KEY, message["key"])
        value_id, value = serialize(registry, topic, MessageField.VALUE, message["value"])
        producer.produce(topic, key=key, value=value, on_delivery=lambda error, _: failed.append(error) if error else None)
        print(json.dumps([key_id, value_id]))
    left = producer.flush(30)
    if failed or left:
        sys.exit(f"{failed}, {left} not acknowledged")


main()
