"""OpenTelemetry traces: an event's way from the door to the invoice. Only this package knows OpenTelemetry."""
