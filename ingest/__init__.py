"""The door: parse, validate, route, pack and publish usage events."""
